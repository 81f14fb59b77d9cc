//! What clients do to an RTSP server harms the relay nothing, and gst-rtsp-server with nothing
//! around it: what cannot fail there would show nothing here.
//!
//! The launcher beside `bench` is the one that is tested: `cargo build -p launcher` makes it.

use std::process::Command;

#[test]
fn the_relay_stands_what_a_bare_server_does_not() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("abuse")
        .output()
        .expect("bench runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}
