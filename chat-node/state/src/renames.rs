//! Under which name each user went at each place of a replay.
//!
//! An event carries the prefix that its proposer knew. What is shown after a later change of nick must not carry the
//! old one any more, though the event was proposed before it; nor what is shown after a change that is not kept.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    directory::Directory,
    event::EventKind,
    ids::{Position, UserId},
};

/// The ends of prefixes that the directory still keeps: by a change of nick, or with the user.
#[derive(Clone, Debug, Default)]
pub struct Renames(BTreeMap<UserId, Vec<(Position, Arc<str>)>>);

impl Renames {
    /// Those after `position`.
    pub fn since(directory: &Directory, position: Position) -> Self {
        let mut renames = Self::default();
        for event in directory.kept().after(position) {
            if let EventKind::NickChanged { user, prefix, .. } | EventKind::Freed { user, prefix, .. } =
                &event.kind
            {
                renames.0.entry(*user).or_default().push((event.position, Arc::clone(prefix)));
            }
        }
        renames
    }

    /// `nick!user@host` of a user after the directory's event at `at`; none if it was freed before.
    pub fn prefix(&self, directory: &Directory, user: UserId, at: Position) -> Option<Arc<str>> {
        let ends = self.0.get(&user).map_or(&[][..], Vec::as_slice);
        let next = ends.partition_point(|(position, _)| *position <= at);
        ends.get(next).map(|(_, prefix)| prefix).or_else(|| directory.prefix(user)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lineage;

    #[test]
    fn a_prefix_holds_until_it_ends() {
        let end = |position, prefix: &str| (Position(position), Arc::from(prefix));
        let renames = Renames(BTreeMap::from([(UserId(1), vec![end(5, "a!u@h"), end(9, "b!u@h")])]));
        let directory = Directory::new(Lineage(1));
        let prefix = |at| renames.prefix(&directory, UserId(1), Position(at));
        assert_eq!(prefix(4).as_deref(), Some("a!u@h"));
        assert_eq!(prefix(5).as_deref(), Some("b!u@h"), "it is another one after the change");
        assert_eq!(prefix(8).as_deref(), Some("b!u@h"));
        assert_eq!(prefix(9), None, "gone");
    }
}
