//! A room's membership as its leaders move it, on a model in which every step succeeds.

use super::*;

fn node(name: &str) -> PeerNode {
    PeerNode { name: name.to_owned(), host: name.to_owned(), ..PeerNode::default() }
}

/// A group that its first voter leads; all are alive and have everything.
fn view(voters: &[u64], members: &[u64]) -> View {
    let members: BTreeMap<_, _> = members.iter().map(|id| (*id, node(&id.to_string()))).collect();
    View {
        me: voters[0],
        group: 1,
        tolerate: 1,
        joint: vec![voters.iter().copied().collect()],
        nodes: members.clone(),
        current: members.keys().copied().collect(),
        alive: members.keys().copied().collect(),
        members,
        ..View::default()
    }
}

fn take(view: &mut View, step: Step) {
    match step {
        Step::Finish(voters) | Step::Voters(voters) => {
            assert!(voters.contains(&view.me), "who leads a change stays: {voters:?}");
            view.joint = vec![voters];
        }
        Step::AddLearner(id, node) => {
            view.nodes.insert(id, node);
            view.current.insert(id);
        }
        Step::Describe(nodes) => view.nodes.extend(nodes),
        Step::Remove(id) => {
            assert!(!view.joint[0].contains(&id), "a voter is not removed");
            view.nodes.remove(&id);
        }
        Step::HandOver(to) => {
            assert!(view.joint[0].contains(&to), "only a voter can lead");
            view.me = to;
        }
        Step::StepAside => {
            view.me = *view.joint[0].iter().find(|id| **id != view.me).expect("another voter");
            view.stalled = false;
        }
    }
}

/// Until nothing is left to do.
fn settle(view: &mut View) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = next(view) {
        steps.push(step.clone());
        take(view, step);
        assert!(steps.len() < 50, "it does not come to rest: {steps:#?}");
    }
    steps
}

fn voters(view: &View) -> Vec<u64> {
    view.joint[0].iter().copied().collect()
}

#[test]
fn a_room_of_one_becomes_a_room_of_three() {
    let mut view = view(&[7], &[7]);
    assert_eq!(settle(&mut view), []);
    view.members.insert(8, node("8"));
    view.alive.insert(8);
    settle(&mut view);
    assert_eq!(voters(&view), [7, 8], "on two disks is better than on one");
    view.members.insert(9, node("9"));
    view.alive.insert(9);
    settle(&mut view);
    assert_eq!(voters(&view), [7, 8, 9]);
}

#[test]
fn who_lacks_much_or_is_silent_gets_no_vote() {
    let mut view = view(&[7], &[7, 8, 9]);
    view.current.remove(&9);
    view.alive.remove(&8);
    assert_eq!(next(&view), None);
    view.alive.insert(8);
    assert_eq!(next(&view), Some(Step::Voters([7, 8].into())));
    view.current.insert(9);
    assert_eq!(next(&view), Some(Step::Voters([7, 8, 9].into())));
}

#[test]
fn a_leader_that_is_to_leave_hands_over_first_and_goes_last() {
    let mut view = view(&[7, 8, 9], &[7, 8, 9, 10]);
    view.members.get_mut(&7).expect("a member").leaving = true;
    view.nodes = view.members.clone();
    view.serving = [7, 8, 9, 10].into();
    let steps = settle(&mut view);
    assert!(matches!(steps[..], [Step::HandOver(_), Step::Voters(_)]), "{steps:?}");
    assert_eq!(voters(&view), [8, 9, 10]);
    assert!(view.nodes.contains_key(&7), "its clients still hear what others say");
    view.serving.remove(&7);
    assert_eq!(settle(&mut view), [Step::Remove(7)]);
}

#[test]
fn the_directory_lets_go_of_a_member_after_every_other_group() {
    let mut view = view(&[7, 8, 9], &[7, 8, 9, 10]);
    view.group = 0;
    view.members.get_mut(&10).expect("a member").leaving = true;
    view.nodes = view.members.clone();
    view.joint = vec![[7, 8, 9].into()];
    view.elsewhere = [7, 8, 9, 10].into();
    while let Some(step) = next(&view) {
        assert!(!matches!(step, Step::Remove(_)), "it is a voter elsewhere");
        take(&mut view, step);
    }
    view.elsewhere.remove(&10);
    assert!(settle(&mut view).contains(&Step::Remove(10)));
}

#[test]
fn a_change_that_another_leader_began_is_ended_first() {
    let mut view = view(&[7, 8, 9], &[7, 8, 9, 10]);
    view.joint = vec![[7, 8, 9].into(), [7, 8, 10].into()];
    assert_eq!(next(&view), Some(Step::Finish([7, 8, 10].into())));
}

#[test]
fn with_nobody_to_take_its_place_the_others_go_on_without_it() {
    let mut view = view(&[7, 8, 9], &[7, 8, 9]);
    view.members.get_mut(&9).expect("a member").leaving = true;
    view.nodes = view.members.clone();
    settle(&mut view);
    assert_eq!(voters(&view), [7, 8], "what is acknowledged stays on two disks");
}

#[test]
fn voters_are_not_chosen_of_which_most_are_not_there() {
    let mut view = view(&[7, 8, 9], &[7, 8, 9]);
    view.members.get_mut(&8).expect("a member").leaving = true;
    view.nodes = view.members.clone();
    view.alive.remove(&9);
    assert_eq!(next(&view), None, "of 7 and 9 alone both would be needed");
    view.me = 8;
    assert_eq!(next(&view), None, "nor does another one begin it");
    view.alive.insert(9);
    settle(&mut view);
    assert_eq!(voters(&view), [7, 9]);
}

#[test]
fn a_leader_whose_disk_stands_still_lets_another_one_lead() {
    let mut view = view(&[7, 8, 9], &[7, 8, 9]);
    view.stalled = true;
    view.current.remove(&8);
    assert_eq!(next(&view), Some(Step::StepAside));
    view.joint.push([7, 8, 10].into());
    assert_eq!(next(&view), Some(Step::StepAside), "whatever else there is to do");
    view.joint.pop();
    view.alive.remove(&9);
    assert_eq!(next(&view), None, "nobody is there who could");
}

#[test]
fn who_was_let_go_of_is_not_taken_for_somebody_new() {
    let announced = |name: &str| Announced { node: node(name), was_member: false };
    let mut announcements = BTreeMap::from([(7, announced("7")), (8, announced("8"))]);
    let mut nodes = BTreeMap::from([(7, node("7"))]);
    let ids = |members: BTreeMap<u64, PeerNode>| members.into_keys().collect::<Vec<_>>();
    assert_eq!(ids(directory_members(&nodes, &mut announcements)), [7, 8], "8 waits to come in");
    nodes.insert(8, node("8"));
    assert_eq!(ids(directory_members(&nodes, &mut announcements)), [7, 8]);
    nodes.remove(&8);
    assert_eq!(ids(directory_members(&nodes, &mut announcements)), [7]);
}
