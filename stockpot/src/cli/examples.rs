//! The examples that stand first in what follows a verb's options.

/// The line that the examples follow.
pub(super) const TITLE: &str = "Examples:\n";

/// What follows a verb's options, in two parts: its examples, one a line, and what is said besides.
pub(crate) fn split(after_help: &str) -> (Vec<&str>, &str) {
    let Some(rest) = after_help.strip_prefix(TITLE) else {
        return (Vec::new(), after_help);
    };
    let (examples, notes) = rest.split_once("\n\n").unwrap_or((rest, ""));
    (examples.lines().map(str::trim).collect(), notes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::{Command, CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    /// The commands of a line of shell, as far as examples go: with quotes, pipes, redirections and comments.
    fn commands(line: &str) -> Vec<Vec<String>> {
        let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (Some(open), _) if c == open => quote = None,
                (Some(_), _) => word.get_or_insert_default().push(c),
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, '#') if word.is_none() => break,
                (None, _) if c.is_whitespace() => words.extend(word.take()),
                (None, '|' | '&' | ';' | '<' | '>' | '(' | ')') => {
                    words.extend(word.take());
                    all.push(std::mem::take(&mut words));
                }
                (None, _) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        all.push(words);
        for words in &mut all {
            let is_variable = |word: &String| {
                let name = word.split_once('=').map_or("", |(name, _)| name);
                !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            };
            let variables = words.iter().take_while(|word| is_variable(word)).count();
            words.drain(..variables);
        }
        all
    }

    /// Of a line, what is said to this program; each has to be something that can be said to it.
    fn said(line: &str) -> Vec<Vec<String>> {
        let mut all = commands(line);
        all.retain(|words| words.first().is_some_and(|word| word == "stockpot"));
        for words in &all {
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}\n{error}");
            }
        }
        all
    }

    /// Every command that can be seen, by its words.
    fn visible<'a>(command: &'a Command, path: &[&'a str], found: &mut Vec<(String, &'a Command)>) {
        for verb in command.get_subcommands() {
            if verb.is_hide_set() || verb.get_name() == "help" {
                continue;
            }
            let path = [path, &[verb.get_name()]].concat();
            visible(verb, &path, found);
            found.push((path.join(" "), verb));
        }
    }

    #[test]
    fn every_verb_has_examples_that_can_be_meant() {
        let root = Cli::command();
        let mut verbs = Vec::new();
        visible(&root, &["stockpot"], &mut verbs);
        assert!(verbs.len() > 60, "{}", verbs.len());
        for (path, verb) in verbs {
            let help = verb.get_after_help().map(ToString::to_string);
            let help = help.unwrap_or_default();
            let (examples, _) = split(&help);
            let said: Vec<String> = examples
                .into_iter()
                .flat_map(said)
                .map(|words| words.join(" "))
                .collect();
            assert!(
                said.iter().any(|line| line.starts_with(&path)),
                "`{path}` has no example of its own: {help}"
            );
        }
    }

    #[test]
    fn what_the_documentation_says_can_be_meant() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs = std::fs::read_dir(root.join("docs")).unwrap().flatten();
        let mut files: Vec<_> = docs.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
        files.push(root.join("README.md"));
        let mut found = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for block in text.split("```sh\n").skip(1) {
                let (block, _) = block.split_once("```").unwrap();
                for line in block.replace("\\\n", " ").lines() {
                    found += said(line).len();
                }
            }
        }
        assert!(found > 60, "{found}");
    }

    #[test]
    fn commands_are_told_from_what_is_around_them() {
        let found = commands("A_B=1 stockpot x 'a | b' -o json | jq '.[]'   # says > much");
        assert_eq!(found[0], ["stockpot", "x", "a | b", "-o", "json"]);
        assert_eq!(found[1], ["jq", ".[]"]);
        assert_eq!(found.len(), 2);
        assert_eq!(commands("mount $(stockpot a) /x")[1], ["stockpot", "a"]);
    }

    #[test]
    fn examples_stand_before_what_is_said_besides() {
        let (examples, notes) = split("Examples:\n  a b\n  c\n\nOne.\n\nTwo.");
        assert_eq!((examples, notes), (vec!["a b", "c"], "One.\n\nTwo."));
        assert_eq!(split("One."), (vec![], "One."));
    }
}
