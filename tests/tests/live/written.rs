//! What the agent writes by itself, as root, where somebody else may have been before it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use leakwatch_tests::{Agent, HostAgent, Target, gate, matrix, need};

use crate::folder::Folder;

const NOBODY: &str = "[discover]\ninclude = [{ comm = \"nobody\" }]\n";

/// Everything that is written to, below this folder, each by its section.
fn writers(at: &Path) -> [(&'static str, String); 2] {
    let at = at.display();
    [
        (
            "queue",
            format!("{NOBODY}[export.remote_write]\nurl = \"http://127.0.0.1:9/\"\nqueue_dir = \"{at}\"\n"),
        ),
        (
            "dumps",
            format!(
                "{NOBODY}[[rule]]\nname = \"many\"\nwhen = \"tasks.live > 300\"\n[[action]]\nkind = \"dump\"\ndir = \"{at}\"\n"
            ),
        ),
    ]
}

#[test]
fn it_writes_to_no_folder_that_others_may_write_to() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("writes");
    let elsewhere = folder.below("elsewhere");
    let open = folder.below("open");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("for all");
    let below = open.join("below");
    let link = folder.path().join("link");
    symlink(&elsewhere, &link).expect("linked");
    let config = folder.path().join("agent.toml");
    for (place, why) in [(&open, "others may write"), (&below, "on the way"), (&link, "it is a link")] {
        for (writer, text) in writers(place) {
            fs::write(&config, format!("[http]\nlisten = \"127.0.0.1:0\"\n{text}")).expect("written");
            let outcome = Agent::start(["agent", "--config", config.to_str().expect("a path")]).wait();
            assert_eq!(outcome.code(), Some(1), "{writer}: {}", outcome.stderr);
            let place = place.display().to_string();
            assert!(
                outcome.stderr.contains(why) && outcome.stderr.contains(&place),
                "{writer}: {}",
                outcome.stderr
            );
        }
    }
    // What is known of binaries can be done without.
    let cache = open.join("binaries.cache");
    let program = folder.copy("known");
    let mut target = Target::start(&program);
    let include = format!("[discover]\ninclude = [{{ exe = \"{}\" }}]\n", program.display());
    let host = HostAgent::start("writes", &format!("{include}cache = \"{}\"\n", cache.display()));
    host.wait_live(target.pid(), target.check().num_goroutine);
    let outcome = host.terminate();
    assert_eq!(outcome.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("others may write"), "{}", outcome.stderr);
    for place in [&open, &elsewhere] {
        assert_eq!(fs::read_dir(place).expect("there").count(), 0, "{}", place.display());
    }
}
