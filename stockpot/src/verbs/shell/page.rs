//! One manual page: what clap knows of a verb, with its examples in a section of their own.

use std::io;

use clap::{
    Arg, ArgAction, Command,
    builder::{Resettable, Str, StyledStr},
};
use clap_mangen::Man;

use crate::cli::examples;

/// The name of its file, and its text.
///
/// # Errors
/// None but what writing into memory may have.
pub(super) fn render(command: &Command) -> io::Result<(String, Vec<u8>)> {
    let version = command.get_version().unwrap_or_default();
    let after = command.get_after_help().map(ToString::to_string);
    // What clap_mangen would call "EXTRA" is put behind its sections; the version stands at the foot of each page.
    let rest = command
        .clone()
        .override_usage(usage(command))
        .after_help(Resettable::<StyledStr>::Reset)
        .version(Resettable::<Str>::Reset);
    let man = Man::new(rest)
        .manual("Stockpot")
        .source(format!("stockpot {version}"));
    let mut page = Vec::new();
    man.render(&mut page)?;
    let (examples, notes) = after.as_deref().map(examples::split).unwrap_or_default();
    if !examples.is_empty() {
        page.extend_from_slice(b".SH EXAMPLES\n.nf\n");
        for example in examples {
            page.extend_from_slice(roff(example).as_bytes());
        }
        page.extend_from_slice(b".fi\n");
    }
    if !notes.is_empty() {
        page.extend_from_slice(b".SH NOTES\n");
        for line in notes.lines() {
            let line = match line.trim() {
                "" => ".PP\n".to_owned(),
                text => roff(text),
            };
            page.extend_from_slice(line.as_bytes());
        }
    }
    Ok((man.get_filename(), page))
}

/// A line of text that roff prints as it is.
fn roff(line: &str) -> String {
    let text = line
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    match text.starts_with('.') {
        true => format!("\\&{text}\n"),
        false => format!("{text}\n"),
    }
}

/// How the verb is called: its options with their values, what it works on, and its verbs on a line of their own.
fn usage(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let shown =
        |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let one_of: Vec<Vec<&Arg>> = command
        .get_groups()
        .filter(|group| group.is_required_set())
        .map(|group| {
            let members = group.get_args();
            let member = |id| command.get_arguments().find(|arg| arg.get_id() == id);
            members.filter_map(member).collect()
        })
        .collect();
    let is_one_of = |arg: &&Arg| {
        let mut members = one_of.iter().flatten();
        members.any(|member| member.get_id() == arg.get_id())
    };
    let mut words = vec![name.to_owned()];
    let options = command.get_arguments().filter(shown);
    let options: Vec<&Arg> = options
        .filter(|arg| !arg.is_positional() && !is_one_of(arg))
        .collect();
    let (required, free): (Vec<&Arg>, Vec<&Arg>) =
        options.into_iter().partition(|arg| arg.is_required_set());
    words.extend(free.into_iter().map(|arg| format!("[{}]", option(arg))));
    words.extend(required.into_iter().map(option));
    for members in &one_of {
        let members: Vec<String> = members.iter().map(|arg| option(arg)).collect();
        words.push(format!("{{{}}}", members.join(" | ")));
    }
    for arg in command.get_positionals().filter(shown) {
        let many = matches!(arg.get_action(), ArgAction::Append);
        let text = format!("{}{}", value(arg), if many { "..." } else { "" });
        words.push(match arg.is_required_set() {
            true => text,
            false => format!("[{text}]"),
        });
    }
    let alone = words.join(" ");
    let with_verb = format!("{name} VERB ...");
    match (command.has_subcommands(), command.get_positionals().next()) {
        (false, _) => alone,
        (true, None) => format!("{alone} VERB ..."),
        (true, Some(_)) => format!("{alone}\n{with_verb}"),
    }
}

/// An option with its value.
fn option(arg: &Arg) -> String {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let name = names.join("|");
    let may_be_left_out = arg
        .get_num_args()
        .is_some_and(|count| count.min_values() == 0);
    let many = match arg.get_action() {
        ArgAction::Append => "...",
        _ => "",
    };
    match (arg.get_action().takes_values(), may_be_left_out) {
        (false, _) => name,
        (true, true) => format!("{name}[={}]", value(arg)),
        (true, false) => format!("{name} {}{many}", value(arg)),
    }
}

fn value(arg: &Arg) -> String {
    match arg.get_value_names() {
        Some(names) => names.join(" "),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn page(path: &[&str]) -> (String, String) {
        let mut root = Cli::command();
        root.build();
        let mut command = &root;
        for name in path {
            command = command.find_subcommand(name).unwrap();
        }
        let usage = usage(command);
        let (_, page) = render(command).unwrap();
        (usage, String::from_utf8(page).unwrap())
    }

    #[test]
    fn examples_have_their_section_and_options_their_values() {
        let (usage, page) = page(&["volume", "restore"]);
        assert!(usage.starts_with("stockpot volume restore ["), "{usage}");
        assert!(usage.contains("[--socket PATH]"), "{usage}");
        assert!(usage.ends_with("VOLUME SNAPSHOT"), "{usage}");
        assert!(
            page.contains("\n.SH EXAMPLES\n.nf\nstockpot volume restore"),
            "{page}"
        );
        assert!(
            page.contains("\n.SH NOTES\nNobody may use the volume"),
            "{page}"
        );
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        assert!(!page.contains("EXTRA"), "{page}");
    }

    #[test]
    fn what_is_required_is_told_from_what_is_not() {
        let (usage, _) = page(&["backup"]);
        assert!(usage.contains(" --to URL"), "{usage}");
        assert!(usage.contains("[--label KEY=VALUE...]"), "{usage}");
        assert!(
            usage.ends_with("SOURCE\nstockpot backup VERB ..."),
            "{usage}"
        );
        let (usage, _) = page(&["repository", "key", "add"]);
        let one = "{--new-key-file FILE | --new-passphrase-file FILE}";
        assert!(usage.contains(one), "{usage}");
        let (usage, _) = page(&["schedule", "update"]);
        assert!(usage.contains("[--skip-in-use[=BOOL]]"), "{usage}");
    }

    #[test]
    fn what_roff_would_obey_is_text() {
        assert_eq!(roff(".a 'b-c\\"), "\\&.a \\(aqb\\-c\\e\n");
        assert_eq!(roff("'x"), "\\(aqx\n");
    }
}
