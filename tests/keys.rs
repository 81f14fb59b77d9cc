//! `launcher keys`: what it prints, what it stores, what it refuses.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use camrelay_protocol::{CameraToken, KnownCamera, PrivateKey};

/// Runs `launcher keys ARGUMENTS` in `folder`.
fn keys(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_launcher"))
        .arg("keys")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the launcher runs")
}

/// Standard output of a run that must succeed.
#[track_caller]
fn out(folder: &Path, arguments: &[&str]) -> String {
    let output = keys(folder, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Standard error of a run that must end with `code`.
#[track_caller]
fn refusal(folder: &Path, code: i32, arguments: &[&str]) -> String {
    let output = keys(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

const LIST: [&str; 2] = ["--cameras", "cameras.txt"];
const ADD: [&str; 5] = ["add", "--relay-key", "relay.key", LIST[0], LIST[1]];

fn add(name: &str) -> Vec<&str> {
    ADD.into_iter().chain([name]).collect()
}

#[test]
fn the_relays_key_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.key");
    let public = out(folder.path(), &["relay", "relay.key"]);
    let text = fs::read_to_string(&file).unwrap();
    let key: PrivateKey = text.parse().unwrap();
    assert_eq!(public.trim(), key.public().to_string());
    assert_eq!(mode(&file), 0o600);

    let refusal = refusal(folder.path(), 1, &["relay", "relay.key"]);
    assert!(
        refusal.starts_with("launcher: relay.key exists already and is left as it is"),
        "{refusal}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_token_and_its_line_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    out(folder.path(), &["relay", "relay.key"]);
    let token = out(folder.path(), &add("door,gate"));
    let token: CameraToken = token.parse().unwrap();
    out(folder.path(), &add("*"));

    let file = folder.path().join("cameras.txt");
    assert_eq!(mode(&file), 0o600);
    let list = KnownCamera::parse_list(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(list.len(), 2);
    let expected = token.known_camera(vec!["door".into(), "gate".into()]);
    assert_eq!(list[0].to_text(), expected.to_text());
    assert_eq!(list[1].names(), ["*"]);

    let shown = out(folder.path(), &["list", LIST[0], LIST[1]]);
    let lines: Vec<_> = shown.lines().collect();
    let start = &expected.public().to_string()[..8];
    assert_eq!(lines[0], format!("{start}…  door, gate"));
    assert!(lines[1].ends_with("…  *"), "{shown}");
    let secret = expected.to_text();
    let secret = secret.split(' ').nth(1).unwrap();
    assert!(!shown.contains(&secret[..16]), "{shown}");
}

#[test]
fn a_removed_name_is_gone_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cameras.txt");
    out(folder.path(), &["relay", "relay.key"]);
    fs::write(&file, "# ours").unwrap();
    out(folder.path(), &add("door,gate"));
    out(folder.path(), &add("yard"));
    let before = fs::read_to_string(&file).unwrap();

    out(folder.path(), &["remove", LIST[0], LIST[1], "yard"]);
    out(folder.path(), &["remove", LIST[0], LIST[1], "door"]);
    let kept: Vec<_> = before.lines().take(2).collect();
    let expected = format!("{}\n{}\n", kept[0], kept[1].replace("door,gate", "gate"));
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);

    let refused = refusal(folder.path(), 1, &["remove", LIST[0], LIST[1], "door"]);
    assert_eq!(
        refused,
        "launcher: cameras.txt has no camera 'door'; see: launcher keys list --cameras cameras.txt\n"
    );
}

#[test]
fn refusals_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let no_key = refusal(folder.path(), 1, &add("door"));
    assert_eq!(
        no_key,
        "launcher: 'relay.key': no such file; make the relay's key with: launcher keys relay relay.key\n"
    );
    out(folder.path(), &["relay", "relay.key"]);
    out(folder.path(), &add("door"));
    let twice = refusal(folder.path(), 1, &add("gate,door"));
    assert_eq!(
        twice,
        "launcher: cameras.txt has a camera 'door' already; take it out first with: \
         launcher keys remove --cameras cameras.txt door\n"
    );
    let bad_name = refusal(folder.path(), 2, &add("front door"));
    assert!(
        bad_name.contains("(did you mean 'front-door'?)"),
        "{bad_name}"
    );

    fs::write(folder.path().join("cameras.txt"), "door nonsense\n").unwrap();
    let bad_list = refusal(folder.path(), 1, &["list", LIST[0], LIST[1]]);
    assert!(
        bad_list.starts_with("launcher: cameras.txt: line 1: a camera's key is 86 characters"),
        "{bad_list}"
    );
}

#[test]
fn the_hash_of_a_password_is_a_line_for_a_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let hash = |password: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_launcher"))
            .args(["keys", "password"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the launcher runs");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(password.as_bytes()).expect("it reads");
        drop(input);
        child.wait_with_output().expect("it ends")
    };
    let output = hash("red\n");
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout).expect("text");
    let text = format!("[relay]\n[[user]]\nname = \"ann\"\nrights = [\"view\"]\n{line}");
    fs::write(folder.path().join("relay.toml"), text).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_launcher"))
        .args(["check", "--config", "relay.toml"])
        .current_dir(folder.path())
        .output()
        .expect("the launcher runs");
    let said = String::from_utf8(check.stdout).expect("text");
    assert!(
        said.contains("those who log in, from anywhere: ann"),
        "{said}"
    );
    assert_eq!(hash("\n").status.code(), Some(1), "an empty one");
}
