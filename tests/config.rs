//! Deployments as the launcher takes and refuses them, and the ones that it comes with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const WRONG_USE: i32 = 2;
const WRONG_CONFIGURATION: i32 = 78;

fn launcher(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_launcher"))
        .args(arguments)
        .output()
        .expect("the launcher runs")
}

/// The lines on standard error of `launcher COMMAND --config FILE`, FILE holding `text`,
/// and the exit code. The folder of FILE is left out of the lines.
fn run(command: &str, text: &str) -> (Vec<String>, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    fs::write(&file, text).unwrap();
    let output = launcher(&[command, "--config", file.to_str().unwrap()]);
    let prefix = format!("{}/", folder.path().display());
    let stderr = String::from_utf8(output.stderr)
        .unwrap()
        .replace(&prefix, "");
    let lines = stderr.lines().map(str::to_owned).collect();
    (lines, output.status.code())
}

#[test]
fn every_command_refuses_a_wrong_deployment_with_all_that_is_wrong() {
    let text = "[relay]\nlisten = \"nowhere\"\naccept = \"lam\"\n[rtsp]\nport = 8554";
    let expected = [
        "f.toml:2:10: relay.listen: expected an address and port to listen on, such as '0.0.0.0:8000', found 'nowhere'",
        "f.toml:3:10: relay.accept: expected 'lan', 'known' or 'anyone', found 'lam' (did you mean 'lan'?)",
        "f.toml:5:1: rtsp.port: no such key (did you mean 'ports'?)",
    ];
    for command in ["check", "camera", "relay"] {
        let (lines, code) = run(command, text);
        assert_eq!(lines, expected, "{command}");
        assert_eq!(code, Some(WRONG_CONFIGURATION), "{command}");
    }
}

#[test]
fn check_says_what_is_wrong_with_gst_launch_text() {
    let text = r#"
[[camera]]
name = "a"
source = "videotestsrc is-live=true patern=ball"
encode = "jpegenc qualty=85"
relay = "127.0.0.1:8000"
[[camera]]
name = "b"
source = "videotestsrc ! video/x-raw,width=320"
encode = "h264parse"
relay = "127.0.0.1:8000"
[[camera]]
name = "c"
source = "film.mp4"
encode = "jpgenc ! hpegenc"
relay = "127.0.0.1:8000"
"#;
    let (lines, code) = run("check", text);
    let expected = [
        "f.toml:4:37: camera 'a'.source: 'videotestsrc' has no property 'patern' (did you mean 'pattern'?)",
        "f.toml:5:19: camera 'a'.encode: 'jpegenc' has no property 'qualty' (did you mean 'quality'?)",
        "f.toml:10:11: camera 'b'.encode: expected an encoder for what the source gives, video/x-raw",
        "f.toml:14:11: camera 'c'.source: there is no file 'film.mp4'",
        "f.toml:15:11: camera 'c'.encode: there is no element 'jpgenc' (did you mean 'jpegenc'?)",
        "f.toml:15:20: camera 'c'.encode: there is no element 'hpegenc' (did you mean 'jpegenc'?)",
    ];
    assert_eq!(lines, expected);
    assert_eq!(code, Some(WRONG_CONFIGURATION));
}

#[test]
fn each_command_wants_what_it_runs() {
    let (lines, code) = run("camera", "[relay]");
    assert_eq!(
        lines,
        ["f.toml: expected at least one [[camera]] to send; run its relay with: launcher relay"]
    );
    assert_eq!(code, Some(WRONG_CONFIGURATION));

    let camera = "[[camera]]\nname = \"a\"\nsource = \"videotestsrc\"\nrelay = \"127.0.0.1:8000\"";
    let (lines, code) = run("relay", camera);
    assert_eq!(
        lines,
        ["f.toml: expected a [relay]; send the cameras alone with: launcher camera"]
    );
    assert_eq!(code, Some(WRONG_CONFIGURATION));
}

#[test]
fn wrong_use_is_told_apart() {
    for arguments in [&["relay"][..], &["watch"], &["check", "--konfig", "x"], &[]] {
        let output = launcher(arguments);
        assert_eq!(output.status.code(), Some(WRONG_USE), "{arguments:?}");
    }
    let output = launcher(&["check", "--config", "no/such.toml"]);
    assert_eq!(output.status.code(), Some(WRONG_CONFIGURATION));
    assert_eq!(output.stderr, b"no/such.toml: no such file\n");
}

/// The deployments that come with the launcher.
fn pipelines() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_pipeline_is_right() {
    let files = pipelines();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let output = launcher(&["check", "--config", file.to_str().unwrap()]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let right = format!("{} is right.\n", file.display());
        assert!(stdout.starts_with(&right), "{stdout}");
        assert!(
            output.stderr.is_empty(),
            "{}: {:?}",
            file.display(),
            output.stderr
        );
        assert_eq!(output.status.code(), Some(0));
    }
}

/// The keys of a table, as the launcher lists them.
fn keys(table: &str) -> BTreeSet<String> {
    let (lines, _) = run("check", &format!("{table}\nqqqqqqqq = 1"));
    let list = lines.iter().find_map(|line| {
        line.split_once("no such key (there are ")?
            .1
            .strip_suffix(')')
    });
    list.unwrap_or_else(|| panic!("{lines:?}"))
        .split(", ")
        .map(str::to_owned)
        .collect()
}

/// The keys that are explained: set, or set in a remark, below a remark in words.
fn explained(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../pipelines")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    text.split("\n\n")
        .filter(|paragraph| paragraph.lines().any(|line| line.starts_with("# ")))
        .flat_map(|paragraph| paragraph.lines())
        .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
        .map(|(key, _)| key.to_owned())
        .filter(|key| !key.contains(' '))
        .collect()
}

#[test]
fn every_key_is_explained_in_a_pipeline() {
    let relay = &(&keys("[relay]") | &keys("[relay]\n[rtsp]")) | &keys("[relay]\n[http]");
    assert_eq!(explained("relay.toml"), &relay | &keys("[relay]\n[[user]]"));
    assert_eq!(explained("camera.toml"), keys("[[camera]]"));
}
