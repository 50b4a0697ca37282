//! `watch` on a terminal: what is on the screen is what the program knows, and the terminal is given back.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::tmux::Tmux;
use leakwatch_tests::{NativeTarget, Target, agent, gate, matrix, need};

use crate::folder::Folder;

/// The figure after this name in the head of the screen.
fn figure(screen: &str, name: &str) -> Option<u64> {
    let line = screen.lines().find(|line| line.starts_with(name))?;
    line.strip_prefix(name)?.split_whitespace().next()?.replace(',', "").parse().ok()
}

/// The live count in the row of a site.
fn live_of(screen: &str, site: &str) -> Option<u64> {
    let row = screen.lines().find(|line| line.contains(site) && !line.starts_with(site))?;
    // Behind the cursor and the verdict, which is one word or two.
    row.split_whitespace().find_map(|word| word.replace(',', "").parse().ok())
}

/// The command that watches a process, as typed; its own pid is left in `leakwatch.pid`.
fn watch(target: &Target, more: &str) -> String {
    let binary = agent::binary().expect("the gate has seen it");
    format!(
        "stty -g > before; sh -c 'echo $$ > leakwatch.pid; exec {} watch --pid {} --interval 200ms {more}'; \
         echo \"ended with $?\"; stty -g > after",
        binary.display(),
        target.pid()
    )
}

#[test]
fn the_screen_shows_what_the_program_knows_and_the_terminal_is_given_back() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary), gate::tmux());
    let folder = Folder::new("terminal-truth");
    let mut target = Target::start(&binary);
    target.command("spawn chan 1500");
    let before = target.check();
    let terminal = Tmux::start(120, 40, folder.path());
    terminal.command(&watch(&target, ""));
    let live = |screen: &str| figure(screen, "live");
    terminal.wait_for(|screen| live(screen) == Some(before.num_goroutine));
    assert!(terminal.is_taken());

    target.command("spawn chan 37");
    target.command("storm 1000");
    target.command("finish chan 20");
    let after = target.check();
    let screen = terminal.wait_for(|screen| live(screen) == Some(after.num_goroutine));
    let change = after.since(&before);
    let leak = change["main.leakChan"];
    assert_eq!(live_of(&screen, "main.leakChan"), Some(leak.live), "{screen}");
    let all: u64 = change.values().map(|site| site.started).sum();
    terminal.wait_for(|screen| screen.contains(&format!("{} in all", thousands(all))));
    // The runtime starts threads when it likes.
    let now = target.truth().threads;
    terminal.wait_for(|screen| second_figure(screen, "threads") == Some(now));

    // Another size is taken at once, and the page of a site says the same.
    terminal.resize(80, 24);
    terminal.wait_for(|screen| screen.lines().last().is_some_and(|line| line.contains("enter open")));
    terminal.press("/");
    terminal.write("leakChan");
    terminal.press("Enter");
    terminal.press("Enter");
    let page = format!("{} started", thousands(leak.started));
    let screen = terminal.wait_for(|screen| screen.contains("since attach") && screen.contains(&page));
    assert!(screen.contains(&format!("{} (", thousands(leak.live))), "{screen}");
    assert!(screen.contains(&format!("{} ended", leak.ended)), "{screen}");

    // What is on it is saved, and all goroutines with their stacks.
    terminal.press("s");
    terminal.wait_for(|screen| screen.contains("written: "));
    terminal.press("d");
    terminal.wait_for(|screen| screen.contains(".dump.txt"));
    let named = |end: &str| {
        let files = fs::read_dir(folder.path()).expect("a folder").flatten();
        files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(end)).expect("a file")
    };
    let dump = fs::read_to_string(named(".dump.txt")).expect("a text");
    let dumped = dump.lines().filter(|line| line.contains("created by main.leakChan")).count();
    assert_eq!(dumped as u64, leak.live);
    let saved = fs::read_to_string(named(".json")).expect("a text");
    let report = leakwatch_tests::Report::parse(&saved);
    assert_eq!(report.process(target.pid()).json()["tasks"]["live"], after.num_goroutine);

    terminal.press("q");
    let screen = terminal.wait_for(|screen| screen.contains("ended with 0"));
    assert!(screen.contains("main.leakChan"), "the last table stays:\n{screen}");
    assert!(!terminal.is_taken());
    assert_same_modes(folder.path());
    assert!(target.close().success());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary), gate::tmux());
    for signal in ["TERM", "HUP", "INT"] {
        let folder = Folder::new(&format!("terminal-{signal}"));
        let target = Target::start(&binary);
        let terminal = Tmux::start(80, 24, folder.path());
        terminal.command(&watch(&target, "--charset ascii --colors none"));
        terminal.wait_for(|screen| screen.starts_with("leakwatch | truth"));
        let killer = Tmux::start(80, 24, folder.path());
        killer.command(&format!("kill -{signal} $(cat leakwatch.pid)"));
        terminal.wait_for(|screen| screen.contains("ended with "));
        assert!(!terminal.is_taken(), "{signal}");
        assert_same_modes(folder.path());
        assert!(target.close().success());
    }
}

#[test]
fn nothing_stays_behind_when_the_terminal_goes() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary), gate::tmux());
    let folder = Folder::new("terminal-gone");
    let target = Target::start(&binary);
    let terminal = Tmux::start(80, 24, folder.path());
    terminal.command(&watch(&target, "--charset ascii"));
    terminal.wait_for(|screen| screen.starts_with("leakwatch | truth"));
    let pid = fs::read_to_string(folder.path().join("leakwatch.pid")).expect("a pid");
    let own = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(own.exists());
    drop(terminal);
    assert!(eventually(Duration::from_secs(20), || !own.exists()), "leakwatch goes on without a terminal");
    assert!(target.close().success());
}

/// crossterm loses a key that comes with a new size; the screen does not.
#[test]
fn a_key_that_comes_with_a_new_size_is_not_lost() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary), gate::tmux());
    let folder = Folder::new("terminal-size");
    let target = Target::start(&binary);
    let terminal = Tmux::start(100, 30, folder.path());
    terminal.command(&watch(&target, ""));
    terminal.wait_for(|screen| screen.starts_with("leakwatch ·"));
    for round in 0..12 {
        let help = round % 2 == 0;
        terminal.resize_and_press(if help { 90 } else { 100 }, 30, "?");
        terminal.wait_for(|screen| screen.contains("draw again") == help);
    }
    terminal.press("q");
    assert!(eventually(Duration::from_secs(10), || !terminal.is_taken()));
    assert!(target.close().success());
}

#[test]
fn a_stopped_screen_comes_back() {
    let binary = matrix::any_go_target().path;
    need!(gate::live(), gate::file(&binary), gate::tmux());
    let folder = Folder::new("terminal-stop");
    let mut target = Target::start(&binary);
    let terminal = Tmux::start(100, 30, folder.path());
    let before = target.truth();
    terminal.command(&watch(&target, ""));
    let live = |screen: &str| figure(screen, "live");
    terminal.wait_for(|screen| live(screen) == Some(before.num_goroutine));
    terminal.press("C-z");
    terminal.wait_for(|screen| screen.contains("Stopped"));
    assert!(!terminal.is_taken());
    target.command("spawn chan 12");
    let after = target.truth();
    terminal.command("fg");
    terminal.wait_for(|screen| live(screen) == Some(after.num_goroutine));
    assert!(terminal.is_taken());
    terminal.press("q");
    assert!(eventually(Duration::from_secs(10), || !terminal.is_taken()));
    assert!(target.close().success());
}

/// The live count in the row of a process.
fn live_of_pid(screen: &str, pid: u32) -> Option<u64> {
    let pid = pid.to_string();
    let words = screen.lines().map(|line| line.split_whitespace().skip_while(|word| *word != pid).skip(1));
    // Behind its name and its runtime.
    words.into_iter().find_map(|mut row| row.find_map(|word| word.replace(',', "").parse().ok()))
}

#[test]
fn top_shows_programs_with_a_runtime_and_those_without() {
    let (go, c) = (matrix::any_go_target().path, matrix::native_target("c", "plain"));
    need!(gate::live(), gate::file(&go), gate::file(&c), gate::tmux());
    let folder = Folder::new("terminal-top");
    let mut program = Target::start(&go);
    let mut threads = NativeTarget::start(&mut Command::new(&c));
    threads.command("leak 40");
    program.command("spawn chan 300");
    let terminal = Tmux::start(120, 40, folder.path());
    let binary = agent::binary().expect("the gate has seen it");
    terminal.command(&format!("{} top --interval 200ms", binary.display()));
    terminal.wait_for(|screen| screen.contains("VERDICT"));
    let choose = |pid: u32| {
        terminal.press("/");
        terminal.press("C-u");
        terminal.write(&pid.to_string());
        terminal.press("Enter");
    };
    choose(program.pid());
    let truth = program.check();
    terminal.wait_for(|screen| live_of_pid(screen, program.pid()) == Some(truth.num_goroutine));
    program.command("finish chan 50");
    let truth = program.check();
    terminal.wait_for(|screen| live_of_pid(screen, program.pid()) == Some(truth.num_goroutine));

    // Threads, and then the page of the process with its children.
    choose(threads.pid());
    terminal.wait_for(|screen| live_of_pid(screen, threads.pid()) == Some(41));
    let truth = threads.command("leak 9");
    terminal.wait_for(|screen| live_of_pid(screen, threads.pid()) == Some(truth.threads));
    threads.command("finish 5");
    let truth = threads.command("fork 7 /bin/true");
    terminal.press("Enter");
    let screen = terminal.wait_for(|screen| {
        figure(screen, "live") == Some(truth.threads) && second_figure(screen, "forks") == Some(7)
    });
    assert!(screen.contains("9 in all") && screen.contains("5 in all"), "started and ended:\n{screen}");
    assert!(screen.contains("leak_thread"), "{screen}");
    terminal.press("q");
    assert!(eventually(Duration::from_secs(10), || !terminal.is_taken()));
    assert!(program.close().success());
}

#[test]
fn a_screen_that_is_asked_for_needs_a_terminal() {
    need!(gate::live());
    let binary = agent::binary().expect("the gate has seen it");
    for arguments in [&["watch", "--format", "tui", "--pid", "1"][..], &["top"]] {
        let mut command = Command::new(&binary);
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().count() == 1 && said.contains("needs a terminal"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

fn assert_same_modes(folder: &std::path::Path) {
    let mut modes = (String::new(), String::new());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let written = eventually(Duration::from_secs(10), || {
        modes = (read("before"), read("after"));
        !modes.1.is_empty()
    });
    assert!(written, "the shell has not gone on");
    assert_eq!(modes.0, modes.1, "the modes of the terminal");
}

/// The head has two figures on a line: the one after this name.
fn second_figure(screen: &str, name: &str) -> Option<u64> {
    let line = screen.lines().find(|line| line.contains(name) && !line.starts_with("leakwatch"))?;
    line.split(name).nth(1)?.split_whitespace().next()?.parse().ok()
}

pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
