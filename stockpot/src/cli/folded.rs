//! Examples as a terminal shows them. Clap breaks long lines at blanks, and the first part of a command so broken is often a command of
//! its own, which does something else than the whole: so they are broken here, as a shell reads them.

use std::mem;

use clap::Command;

use super::examples::{TITLE, split};

/// Columns of the narrowest usual terminal.
const COLUMNS: usize = 80;
const INDENT: usize = 2;
/// Of what goes on with a line before.
const FURTHER: usize = 6;

/// The command with the examples of all its verbs in lines that fit.
pub(crate) fn folded(command: Command) -> Command {
    let mut command = match command.get_after_help().map(ToString::to_string) {
        Some(after) if after.starts_with(TITLE) => command.after_help(folded_examples(&after)),
        _ => command,
    };
    for verb in command.get_subcommands_mut() {
        *verb = folded(mem::take(verb));
    }
    command
}

fn folded_examples(after_help: &str) -> String {
    let (examples, notes) = split(after_help);
    let lines: Vec<String> = examples.into_iter().flat_map(lines_of).collect();
    let examples = format!("{TITLE}{}", lines.join("\n"));
    match notes {
        "" => examples,
        notes => format!("{examples}\n\n{notes}"),
    }
}

/// An example as it is where it fits. Else its comment stands before it, and a backslash says that a line goes on.
fn lines_of(example: &str) -> Vec<String> {
    let whole = format!("{:INDENT$}{example}", "");
    if whole.chars().count() < COLUMNS {
        return vec![whole];
    }
    let mut words = words(example);
    let comment = words.iter().position(|word| word.starts_with('#'));
    let comment = comment.map(|at| words.split_off(at)).unwrap_or_default();
    let comment: Vec<_> = comment.into_iter().filter(|word| *word != "#").collect();
    let mut lines = filled(&comment, "# ", "# ", "");
    lines.extend(filled(
        &options(&words),
        "",
        &" ".repeat(FURTHER - INDENT),
        " \\",
    ));
    lines
        .iter()
        .map(|line| format!("{:INDENT$}{line}", ""))
        .collect()
}

/// As many parts in each line as fit.
fn filled<T: AsRef<str>>(parts: &[T], first: &str, further: &str, end: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let room = COLUMNS - 1 - INDENT - end.len();
    for part in parts.iter().map(AsRef::as_ref) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + part.chars().count() <= room => {
                line.push(' ');
                line.push_str(part);
            }
            Some(line) => {
                line.push_str(end);
                lines.push(format!("{further}{part}"));
            }
            None => lines.push(format!("{first}{part}")),
        }
    }
    lines
}

/// Words of a shell's line, with their quotes.
fn words(line: &str) -> Vec<&str> {
    let mut quote = None;
    let is_between = |c: char| {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            _ => {}
        }
        quote.is_none() && c == ' '
    };
    let words = line.split(is_between);
    words.filter(|word| !word.is_empty()).collect()
}

/// Words that stay in one line: an option with its value, and what stands before the first option.
fn options(words: &[&str]) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut takes_value = true;
    for word in words {
        let begins = word.starts_with('-') || *word == "|";
        match parts.last_mut() {
            Some(part) if takes_value && !begins => {
                part.push(' ');
                part.push_str(word);
            }
            _ => parts.push((*word).to_owned()),
        }
        takes_value = begins || (takes_value && parts.len() == 1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn check(verb: &Command, seen: &mut usize) {
        let help = verb.clone().render_help().to_string();
        if let Some((_, after)) = help.split_once(TITLE) {
            let (examples, _) = after.split_once("\n\n").unwrap_or((after, ""));
            let mut goes_on = false;
            for line in examples.lines() {
                let text = line.trim_start();
                let indent = line.len() - text.len();
                let expected = if goes_on { FURTHER } else { INDENT };
                assert_eq!(indent, expected, "{line:?} in {examples}");
                goes_on = line.ends_with('\\');
                *seen += usize::from(goes_on);
            }
            assert!(!goes_on, "{examples}");
        }
        verb.get_subcommands().for_each(|verb| check(verb, seen));
    }

    #[test]
    fn no_example_is_broken_by_the_terminal() {
        let mut seen = 0;
        check(&folded(Cli::command().term_width(COLUMNS)), &mut seen);
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn long_examples_are_broken_as_a_shell_reads_them() {
        let long = "stockpot schedule create gold --match 'a tier=gold' --first 2026-01-31T02:00:00 --every monthly --keep-last 12   # a \
                    year of it";
        assert_eq!(
            lines_of(long),
            [
                "  # a year of it",
                "  stockpot schedule create gold --match 'a tier=gold' \\",
                "      --first 2026-01-31T02:00:00 --every monthly --keep-last 12",
            ]
        );
        assert_eq!(lines_of("stockpot x   # y"), ["  stockpot x   # y"]);
        assert_eq!(
            words("a 'b  c' | \"d e\"x"),
            ["a", "'b  c'", "|", "\"d e\"x"]
        );
        assert_eq!(
            options(&["a", "b", "-c", "d", "e", "|", "f"]),
            ["a b", "-c d", "e", "| f"]
        );
    }
}
