//! What the runner promises, on small shell scripts.

use std::time::{Duration, Instant};

use stockpot_command::{Command, CommandError, Exit, Process};

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[tokio::test]
async fn output_and_exit_are_kept() {
    let output = sh("echo out; echo err >&2; exit 3").output().await.unwrap();
    assert_eq!(output.stdout_text(), "out\n");
    assert_eq!(output.stderr, "err");
    assert_eq!(output.exit, Exit::Code(3));
    let error = sh("echo no good >&2; exit 3").run().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "sh -c \"echo no good >&2; exit 3\": exit code 3: no good"
    );
    let error = sh("kill -SEGV $$").run().await.unwrap_err();
    assert_eq!(error.exit(), Some(Exit::Signal(11)));
}

#[tokio::test]
async fn a_missing_program_is_named_with_its_package() {
    let error = Command::new("no-such-program")
        .package("some-package")
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "program no-such-program was not found (Debian package some-package)"
    );
}

#[tokio::test]
async fn the_environment_is_minimal_and_the_input_is_fed() {
    let output = Command::new("env").env("A", "b").run().await.unwrap();
    let text = output.stdout_text();
    let mut lines: Vec<_> = text.lines().map(|l| l.split('=').next().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A", "LC_ALL", "PATH"]);
    let big = vec![b'x'; 1 << 20];
    let output = Command::new("cat").stdin(big.clone()).run().await.unwrap();
    assert_eq!(output.stdout, big);
    assert_eq!(Command::new("cat").run().await.unwrap().stdout, b"");
    assert!(!format!("{:?}", Command::new("cat").stdin("hush")).contains("hush"));
}

#[tokio::test]
async fn the_deadline_stops_the_command_and_its_children() {
    let started = Instant::now();
    let error = sh("echo first >&2; sleep 1000 & echo $! >&2; wait")
        .deadline(Duration::from_millis(300))
        .run()
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4));
    let CommandError::Deadline { stderr, .. } = &error else {
        panic!("{error}")
    };
    let sleeper = stderr.lines().last().unwrap().to_owned();
    gone(&sleeper).await;
}

#[tokio::test]
async fn a_dropped_future_kills_the_group() {
    let file = std::env::temp_dir().join(format!("stockpot-command-{}", std::process::id()));
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let run = tokio::time::timeout(Duration::from_millis(500), sh(&script).run());
    assert!(run.await.is_err());
    let sleeper = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    gone(sleeper.trim()).await;
}

#[tokio::test]
async fn output_is_bounded_and_a_daemon_on_the_pipe_does_not_block() {
    let error = sh("head -c 100000 /dev/zero")
        .output_limit_bytes(1000)
        .run()
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        CommandError::TooMuchOutput {
            limit_bytes: 1000,
            ..
        }
    ));
    let output = sh("head -c 100000 /dev/zero | tr '\\0' y >&2; echo end >&2")
        .output()
        .await
        .unwrap();
    assert!(output.stderr.ends_with("yyyend") && output.stderr.len() < 20_000);
    let started = Instant::now();
    let output = sh("sleep 20 & echo left").run().await.unwrap();
    assert_eq!(output.stdout_text(), "left\n");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn output_is_passed_on_whatever_its_length() {
    let (mut reader, writer) = tokio::io::duplex(4096);
    let command = sh("head -c 3000000 /dev/zero").stdout_into(writer);
    let command = command.output_limit_bytes(1000).run();
    // Slower than the command: its end must not cut the rest off.
    let reading = async {
        let mut first = [0; 5000];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut first).await?;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut rest).await?;
        std::io::Result::Ok(rest.len())
    };
    let (output, rest) = tokio::join!(command, reading);
    assert!(output.unwrap().stdout.is_empty());
    assert_eq!(rest.unwrap(), 3_000_000 - 5000);

    let (reader, writer) = tokio::io::duplex(4096);
    drop(reader);
    let ended = sh("yes").stdout_into(writer).output().await.unwrap();
    assert_ne!(ended.exit, stockpot_command::Exit::Code(0));
}

/// Waits until a process is gone or a zombie that nobody reaped.
async fn gone(pid: &str) {
    for _ in 0..50 {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if !stat.contains(") Z ") => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            _ => return,
        }
    }
    panic!("process {pid} is still there");
}

#[tokio::test]
async fn a_process_that_is_talked_to_ends_when_nobody_talks_to_it() {
    let name = format!("stockpot-conversation-{}", std::process::id());
    let ended = std::env::temp_dir().join(name);
    // What a closed pipe ends, it still has time to do something after.
    let script = format!("cat; echo ended > {}", ended.display());
    let mut talk = Command::new("/bin/sh")
        .args(["-c", &script])
        .converse()
        .unwrap();
    for line in ["one", "two words"] {
        talk.say(line).await.unwrap();
        assert_eq!(talk.hear().await.unwrap().as_deref(), Some(line));
    }
    drop(talk);
    for _ in 0..500 {
        if std::fs::remove_file(&ended).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it was killed, or does not end");
}

#[tokio::test]
async fn the_end_of_a_process_that_is_talked_to_is_heard() {
    let mut talk = Command::new("/bin/true").converse().unwrap();
    assert_eq!(talk.hear().await.unwrap(), None);
    let missing = Command::new("/nowhere/x").converse().unwrap_err();
    assert!(matches!(missing, CommandError::Missing { .. }), "{missing}");
}

#[tokio::test]
async fn nothing_of_a_command_runs_before_it_is_noted() {
    let dir = std::env::temp_dir().join(format!("stockpot-noted-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let mark = dir.join("ran");
    let script = format!("echo $$ > {}; cat; exit 3", mark.display());
    let (tell, told) = std::sync::mpsc::channel();
    let seen = mark.clone();
    let noted = sh(&script)
        .stdin("a word\n")
        .noted_by(move |process| async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            tell.send((seen.exists(), process)).unwrap();
            Ok(())
        });
    let output = noted.output().await.unwrap();
    let (had_run, process) = told.recv().unwrap();
    assert!(!had_run);
    assert_eq!(
        (output.exit, output.stdout_text().as_str()),
        (Exit::Code(3), "a word\n")
    );
    let pid = std::fs::read_to_string(&mark).unwrap();
    assert!(process.to_string().contains(pid.trim()), "{process}");
    assert!(!process.is_running());
    std::fs::remove_file(&mark).unwrap();

    let failing = sh(&script).noted_by(|_| async { Err(std::io::Error::other("no room")) });
    let refused = failing.output().await.unwrap_err();
    assert!(matches!(refused, CommandError::Start { .. }), "{refused}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!mark.exists());
    std::fs::remove_dir(&dir).unwrap();
}

/// As after a crash: nobody but the note knows of it. The number alone is not enough.
#[tokio::test]
async fn a_process_that_was_left_is_stopped_with_its_children() {
    let script = "trap '' TERM; sleep 1000 & echo $! $$; wait; wait";
    let mut left = Command::new("/bin/sh")
        .args(["-c", script])
        .converse()
        .unwrap();
    let said = left.hear().await.unwrap().unwrap();
    let (sleeper, leader) = said.split_once(' ').unwrap();
    let process = Process::of(leader.parse().unwrap()).unwrap();
    let text = process.to_string();
    assert_eq!(text.parse::<Process>().unwrap(), process);
    let (rest, started) = text.rsplit_once(' ').unwrap();
    let later = started.parse::<u64>().unwrap() + 1;
    let another: Process = format!("{rest} {later}").parse().unwrap();
    assert!(!another.is_running());
    assert!(another.stop().await);
    assert!(process.is_running());
    assert!(process.stop().await);
    gone(leader).await;
    gone(sleeper).await;
    for nothing in ["", "1", "a b c", "boot 0 1", "boot -5 1", "boot 7 8 9"] {
        assert!(nothing.parse::<Process>().is_err(), "{nothing}");
    }
}
