//! What a profile says of the moment of the cut.
//!
//! ```yaml
//! quiesce:
//!   pre: [/usr/local/bin/pause, --now]           # one command, or a list of commands
//!   post: [[/usr/local/bin/resume], [/usr/bin/logger, cut]]
//!   timeoutSeconds: 30                           # for each command
//!   onFailure: fail                              # or continue: the copy is then as after a power cut
//!   freeze: true                                 # freeze mounted file systems
//! ```

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Most commands on either side.
const COMMANDS_MAX: usize = 16;
/// Nobody waits longer for one of them, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 600;

/// What is done around the cut.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Quiesce {
    /// Commands before it: program and arguments, run without a shell. They may be seen by others: no secrets.
    #[serde(deserialize_with = "commands")]
    pub pre: Vec<Vec<String>>,
    /// Commands after it; run whenever one of `pre` was begun, however that and the cut went.
    #[serde(deserialize_with = "commands")]
    pub post: Vec<Vec<String>>,
    /// How long each may take.
    pub timeout_seconds: u64,
    /// What becomes of the snapshot when a command of `pre` fails, or a file system cannot be kept frozen.
    pub on_failure: OnFailure,
    /// Whether mounted file systems are frozen.
    pub freeze: bool,
}

/// What becomes of a snapshot that could not be cut as it was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// There is none.
    Fail,
    /// It is cut all the same, and recorded for what it is.
    Continue,
}

impl Default for Quiesce {
    fn default() -> Self {
        Self {
            pre: Vec::new(),
            post: Vec::new(),
            timeout_seconds: 30,
            on_failure: OnFailure::Fail,
            freeze: true,
        }
    }
}

impl Quiesce {
    /// Where a profile says nothing: file systems are frozen if they can be.
    #[must_use]
    pub fn unsaid() -> Self {
        Self {
            on_failure: OnFailure::Continue,
            ..Self::default()
        }
    }

    /// How long each command may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// What cannot work in it, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        for (name, commands) in [("pre", &self.pre), ("post", &self.post)] {
            if commands.len() > COMMANDS_MAX {
                return Some(format!("{name}: has more than {COMMANDS_MAX} commands"));
            }
            let is_bad = |argv: &Vec<String>| {
                argv.first().is_none_or(String::is_empty)
                    || argv.iter().any(|word| word.contains('\0'))
            };
            if commands.iter().any(is_bad) {
                return Some(format!(
                    "{name}: a command is a program and its arguments, none of them with a zero byte"
                ));
            }
        }
        if !(1..=TIMEOUT_SECONDS_MAX).contains(&self.timeout_seconds) {
            return Some(format!(
                "timeoutSeconds: {} is not from 1 to {TIMEOUT_SECONDS_MAX}",
                self.timeout_seconds
            ));
        }
        None
    }
}

/// One command, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Commands {
    Several(Vec<Vec<String>>),
    One(Vec<String>),
}

fn commands<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<String>>, D::Error> {
    Ok(match Commands::deserialize(from)? {
        Commands::Several(commands) => commands,
        Commands::One(argv) => vec![argv],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Quiesce {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn one_command_or_several() {
        let said = read("{pre: [/bin/pause, now], post: [[/bin/resume], [/bin/log, x]]}");
        assert_eq!(said.pre, [["/bin/pause", "now"]]);
        assert_eq!(said.post.len(), 2);
        assert_eq!(said.on_failure, OnFailure::Fail);
        assert!(said.freeze && said.problem().is_none());
        assert_eq!(Quiesce::unsaid().on_failure, OnFailure::Continue);
        assert_eq!(read("{pre: [], freeze: false}").pre, [[""; 0]; 0]);
    }

    #[test]
    fn mistakes_name_the_field() {
        for (text, named) in [
            ("{timeoutSeconds: 0}", "timeoutSeconds: 0"),
            ("{timeoutSeconds: 601}", "timeoutSeconds: 601"),
            ("{pre: ['']}", "pre: "),
            ("{post: [[]]}", "post: "),
            ("{post: [\"a\\0b\"]}", "post: "),
        ] {
            let problem = read(text).problem().expect(text);
            assert!(problem.starts_with(named), "{text}: {problem}");
        }
        assert!(serde_saphyr::from_str::<Quiesce>("{onFailure: maybe}").is_err());
        assert!(serde_saphyr::from_str::<Quiesce>("{before: []}").is_err());
    }
}
