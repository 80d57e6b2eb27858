//! Runs a test program and compares the machine before and after: `leak-check PROGRAM [ARG...]`.
//!
//! Tests of one program that run at the same time cannot each look for what they left, so it is looked for once, when
//! all have ended. The exit code is the program's; 1 if that is 0 and something was left behind.

use std::{
    env,
    process::{Command, ExitCode},
};

use stockpot_test_fixtures::leak::LeakCheck;

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: leak-check PROGRAM [ARG...]");
        return ExitCode::from(2);
    };
    let temporary = env::temp_dir();
    let leaks = LeakCheck::start_with(&[&temporary]);
    #[expect(
        clippy::disallowed_methods,
        reason = "the test program is to have this one's environment and output"
    )]
    let status = Command::new(&program).args(words).status();
    let code = match status {
        Ok(status) => status.code().unwrap_or(101),
        Err(error) => {
            eprintln!("leak-check: cannot run {}: {error}", program.display());
            2
        }
    };
    let left = leaks.leftovers();
    if !left.is_empty() {
        eprintln!("left behind by {}:", program.display());
        left.iter().for_each(|thing| eprintln!("  {thing}"));
    }
    let failed = u8::try_from(code).unwrap_or(1);
    ExitCode::from(failed.max(u8::from(!left.is_empty())))
}
