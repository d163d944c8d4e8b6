//! Numeric replies: numbers, names, and the text each ends with.

use std::fmt;

/// A numeric reply. Its constants have the names that the specifications give them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Numeric(u16);

/// The three digits of a numeric on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digits([u8; 3]);

impl Digits {
    pub fn as_str(&self) -> &str {
        // ASCII digits by construction.
        std::str::from_utf8(&self.0).unwrap_or("000")
    }
}

impl Numeric {
    pub const fn code(self) -> u16 {
        self.0
    }

    pub const fn digits(self) -> Digits {
        Digits([
            b'0' + (self.0 / 100 % 10) as u8,
            b'0' + (self.0 / 10 % 10) as u8,
            b'0' + (self.0 % 10) as u8,
        ])
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.digits().as_str())
    }
}

impl fmt::Debug for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self})", self.name())
    }
}

macro_rules! numerics {
    ($($code:literal $name:ident $text:literal,)*) => {
        $(pub const $name: Numeric = Numeric($code);)*

        /// Every numeric this server knows, in ascending order.
        pub const ALL: &[Numeric] = &[$($name),*];

        impl Numeric {
            /// The name in the specifications, such as `RPL_WELCOME`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name => stringify!($name),)*
                    _ => "unknown numeric",
                }
            }

            /// The text of the last parameter, where it is always the same or always begins so; else empty.
            pub const fn text(self) -> &'static str {
                match self {
                    $($name => $text,)*
                    _ => "",
                }
            }
        }
    };
}

numerics! {
    1 RPL_WELCOME "Welcome to the chat network",
    2 RPL_YOURHOST "Your host is",
    3 RPL_CREATED "This server was created",
    4 RPL_MYINFO "",
    5 RPL_ISUPPORT "are supported by this server",
    219 RPL_ENDOFSTATS "End of STATS report",
    221 RPL_UMODEIS "",
    242 RPL_STATSUPTIME "Server up",
    251 RPL_LUSERCLIENT "",
    252 RPL_LUSEROP "operator(s) online",
    253 RPL_LUSERUNKNOWN "unknown connection(s)",
    254 RPL_LUSERCHANNELS "channels formed",
    255 RPL_LUSERME "",
    256 RPL_ADMINME "Administrative info",
    257 RPL_ADMINLOC1 "",
    258 RPL_ADMINLOC2 "",
    259 RPL_ADMINEMAIL "",
    263 RPL_TRYAGAIN "Please wait a while and try again",
    265 RPL_LOCALUSERS "",
    266 RPL_GLOBALUSERS "",
    276 RPL_WHOISCERTFP "",
    301 RPL_AWAY "",
    302 RPL_USERHOST "",
    303 RPL_ISON "",
    305 RPL_UNAWAY "You are no longer marked as being away",
    306 RPL_NOWAWAY "You have been marked as being away",
    307 RPL_WHOISREGNICK "has identified for this nick",
    311 RPL_WHOISUSER "",
    312 RPL_WHOISSERVER "",
    313 RPL_WHOISOPERATOR "is an IRC operator",
    314 RPL_WHOWASUSER "",
    315 RPL_ENDOFWHO "End of WHO list",
    317 RPL_WHOISIDLE "seconds idle, signon time",
    318 RPL_ENDOFWHOIS "End of /WHOIS list",
    319 RPL_WHOISCHANNELS "",
    320 RPL_WHOISSPECIAL "",
    321 RPL_LISTSTART "Users  Name",
    322 RPL_LIST "",
    323 RPL_LISTEND "End of /LIST",
    324 RPL_CHANNELMODEIS "",
    329 RPL_CREATIONTIME "",
    330 RPL_WHOISACCOUNT "is logged in as",
    331 RPL_NOTOPIC "No topic is set",
    332 RPL_TOPIC "",
    333 RPL_TOPICWHOTIME "",
    335 RPL_WHOISBOT "is a bot",
    336 RPL_INVITELIST "",
    337 RPL_ENDOFINVITELIST "End of /INVITE list",
    338 RPL_WHOISACTUALLY "Is actually using host",
    341 RPL_INVITING "",
    346 RPL_INVEXLIST "",
    347 RPL_ENDOFINVEXLIST "End of channel invite exception list",
    348 RPL_EXCEPTLIST "",
    349 RPL_ENDOFEXCEPTLIST "End of channel exception list",
    351 RPL_VERSION "",
    352 RPL_WHOREPLY "",
    353 RPL_NAMREPLY "",
    354 RPL_WHOSPCRPL "",
    364 RPL_LINKS "",
    365 RPL_ENDOFLINKS "End of /LINKS list",
    366 RPL_ENDOFNAMES "End of /NAMES list",
    367 RPL_BANLIST "",
    368 RPL_ENDOFBANLIST "End of channel ban list",
    369 RPL_ENDOFWHOWAS "End of WHOWAS",
    371 RPL_INFO "",
    372 RPL_MOTD "",
    374 RPL_ENDOFINFO "End of /INFO list",
    375 RPL_MOTDSTART "Message of the day",
    376 RPL_ENDOFMOTD "End of /MOTD command",
    378 RPL_WHOISHOST "",
    379 RPL_WHOISMODES "",
    381 RPL_YOUREOPER "You are now an IRC operator",
    382 RPL_REHASHING "Rehashing",
    391 RPL_TIME "",
    400 ERR_UNKNOWNERROR "Unknown error",
    401 ERR_NOSUCHNICK "No such nick/channel",
    402 ERR_NOSUCHSERVER "No such server",
    403 ERR_NOSUCHCHANNEL "No such channel",
    404 ERR_CANNOTSENDTOCHAN "Cannot send to channel",
    405 ERR_TOOMANYCHANNELS "You have joined too many channels",
    406 ERR_WASNOSUCHNICK "There was no such nickname",
    407 ERR_TOOMANYTARGETS "Too many targets",
    409 ERR_NOORIGIN "No origin specified",
    410 ERR_INVALIDCAPCMD "Invalid CAP command",
    411 ERR_NORECIPIENT "No recipient given",
    412 ERR_NOTEXTTOSEND "No text to send",
    417 ERR_INPUTTOOLONG "Input line was too long",
    421 ERR_UNKNOWNCOMMAND "Unknown command",
    422 ERR_NOMOTD "MOTD is missing",
    423 ERR_NOADMININFO "No administrative info available",
    431 ERR_NONICKNAMEGIVEN "No nickname given",
    432 ERR_ERRONEUSNICKNAME "Erroneous nickname",
    433 ERR_NICKNAMEINUSE "Nickname is already in use",
    436 ERR_NICKCOLLISION "Nickname collision",
    437 ERR_UNAVAILRESOURCE "Nick/channel is temporarily unavailable",
    441 ERR_USERNOTINCHANNEL "They aren't on that channel",
    442 ERR_NOTONCHANNEL "You're not on that channel",
    443 ERR_USERONCHANNEL "is already on channel",
    451 ERR_NOTREGISTERED "You have not registered",
    461 ERR_NEEDMOREPARAMS "Not enough parameters",
    462 ERR_ALREADYREGISTERED "You may not reregister",
    464 ERR_PASSWDMISMATCH "Password incorrect",
    465 ERR_YOUREBANNEDCREEP "You are banned from this server",
    471 ERR_CHANNELISFULL "Cannot join channel (+l) - channel is full",
    472 ERR_UNKNOWNMODE "is unknown mode char to me",
    473 ERR_INVITEONLYCHAN "Cannot join channel (+i) - you must be invited",
    474 ERR_BANNEDFROMCHAN "Cannot join channel (+b) - you are banned",
    475 ERR_BADCHANNELKEY "Cannot join channel (+k) - bad key",
    476 ERR_BADCHANMASK "Bad channel mask",
    477 ERR_NEEDREGGEDNICK "You need to be logged in to an account to do that",
    478 ERR_BANLISTFULL "Channel list is full",
    481 ERR_NOPRIVILEGES "Permission denied - you're not an IRC operator",
    482 ERR_CHANOPRIVSNEEDED "You're not a channel operator",
    501 ERR_UMODEUNKNOWNFLAG "Unknown MODE flag",
    502 ERR_USERSDONTMATCH "Can't change or view the modes of other users",
    524 ERR_HELPNOTFOUND "No help available on this topic",
    525 ERR_INVALIDKEY "Key is not well-formed",
    671 RPL_WHOISSECURE "is using a secure connection",
    696 ERR_INVALIDMODEPARAM "Invalid mode parameter",
    704 RPL_HELPSTART "",
    705 RPL_HELPTXT "",
    706 RPL_ENDOFHELP "End of /HELP",
    723 ERR_NOPRIVS "Insufficient operator privileges",
    730 RPL_MONONLINE "",
    731 RPL_MONOFFLINE "",
    732 RPL_MONLIST "",
    733 RPL_ENDOFMONLIST "End of MONITOR list",
    734 ERR_MONLISTFULL "Monitor list is full",
    900 RPL_LOGGEDIN "You are now logged in",
    901 RPL_LOGGEDOUT "You are now logged out",
    902 ERR_NICKLOCKED "You must use a nick assigned to you",
    903 RPL_SASLSUCCESS "SASL authentication successful",
    904 ERR_SASLFAIL "SASL authentication failed",
    905 ERR_SASLTOOLONG "SASL message too long",
    906 ERR_SASLABORTED "SASL authentication aborted",
    907 ERR_SASLALREADY "You have already authenticated using SASL",
    908 RPL_SASLMECHS "are available SASL mechanisms",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_have_three_digits() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for numeric in ALL {
            assert_eq!(numeric.digits().as_str(), format!("{:03}", numeric.code()));
        }
        assert_eq!(format!("{RPL_WELCOME:?} {RPL_WELCOME}"), "RPL_WELCOME (001) 001");
    }

    #[test]
    fn every_error_says_something() {
        assert!(
            ALL.iter()
                .filter(|numeric| numeric.name().starts_with("ERR_"))
                .all(|error| !error.text().is_empty())
        );
    }
}
