//! One viewer's connection: its requests are answered, and its frames sent, in turn.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::request::{self, Broken, Incoming};
use super::response::Response;
use super::rtcp;
use super::session::{Connection, Session};
use super::track::Next;
use super::transport::Transport;
use super::udp::Udp;
use super::writer::Writer;

/// How long a request may take to come, from its first byte to its last; and how long
/// somebody may take to log in.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that may wait to be answered.
const WAITING: usize = 4;
/// Bytes a second that go to a viewer over UDP which catches up: what its socket and a network at
/// home hold and carry.
const BURST: f64 = 6e6;
/// How often it is looked at who went silent.
const ROUND: Duration = Duration::from_secs(1);

/// Serves a viewer until it is gone. An error is one of the connection.
pub async fn serve(
    mut connection: Connection,
    udp: Option<Arc<Udp>>,
    from: impl AsyncRead + Send + Unpin + 'static,
    to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut writer = Writer::new(to);
    let (sender, mut requests) = mpsc::channel(WAITING);
    // Ends with this function.
    let mut reading = JoinSet::new();
    reading.spawn(read(BufReader::new(from), sender));
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut reported = Instant::now();
    let mut scratch = Vec::new();
    loop {
        tokio::select! {
            biased;
            incoming = requests.recv() => match incoming {
                None => return Ok(()),
                Some(Ok(Incoming::Packet)) => heard = Instant::now(),
                Some(Ok(Incoming::Request(request))) => {
                    heard = Instant::now();
                    let played = is_playing(&connection);
                    let answer = connection.answer(&request).await;
                    // Without what comes before the path, which may hold a password.
                    let path = request.path().unwrap_or_default().join("/");
                    tracing::debug!(
                        "viewer {}: {} /{path}: {}",
                        connection.viewer(), request.method, answer.response.status()
                    );
                    writer.bytes(&answer.response.to_bytes(request.header("CSeq"))).await?;
                    if answer.closes {
                        return Ok(());
                    }
                    if is_playing(&connection) && !played {
                        report(&connection, &mut writer, udp.as_deref()).await?;
                        reported = Instant::now();
                    }
                }
                Some(Err(broken)) => {
                    if let Some(response) = refusal(&broken) {
                        writer.bytes(&response.to_bytes(None)).await?;
                    }
                    return Ok(());
                }
            },
            () = changed(&mut connection.session) => return Ok(()),
            _ = rounds.tick() => {
                if is_heard(&connection) {
                    heard = Instant::now();
                }
                if heard.elapsed() > connection.patience() {
                    return Ok(());
                }
                if reported.elapsed() >= rtcp::INTERVAL {
                    report(&connection, &mut writer, udp.as_deref()).await?;
                    reported = Instant::now();
                }
            }
            () = connection.wake.notified() => {
                if !frames(&mut connection, &mut writer, udp.as_deref(), &mut scratch).await? {
                    return Ok(());
                }
            }
        }
    }
}

/// Hands on what comes until it ends.
async fn read(
    mut from: BufReader<impl AsyncRead + Unpin>,
    to: mpsc::Sender<Result<Incoming, Broken>>,
) {
    loop {
        let next = match request::wait(&mut from).await {
            Ok(()) => timeout(PATIENCE, request::read(&mut from)).await,
            Err(broken) => Ok(Err(broken)),
        };
        let next = next.unwrap_or(Err(Broken::TooSlow));
        let ended = next.is_err();
        if to.send(next).await.is_err() || ended {
            return;
        }
    }
}

fn refusal(broken: &Broken) -> Option<Response> {
    Some(Response::new(match broken {
        Broken::Ended(_) => return None,
        Broken::Malformed => 400,
        Broken::TooLong => 413,
        Broken::TooSlow => 408,
    }))
}

fn is_playing(connection: &Connection) -> bool {
    connection
        .session
        .as_ref()
        .is_some_and(|session| session.playing)
}

/// Whether the viewer shows that it is there without a request: one over TCP by taking
/// what is written, one over UDP by its reports.
fn is_heard(connection: &Connection) -> bool {
    let Some(session) = connection
        .session
        .as_ref()
        .filter(|session| session.playing)
    else {
        return false;
    };
    // All are asked, so that all are cleared.
    let heard = |track: &super::track::Track| match track.transport() {
        Transport::Tcp { .. } => true,
        Transport::Udp { .. } => track.heard(),
    };
    session.tracks.iter().filter(|track| heard(track)).count() > 0
}

/// Waits until the camera sends other streams than were set up.
async fn changed(session: &mut Option<Session>) {
    match session {
        Some(session) => session.shown.changed().await,
        None => std::future::pending().await,
    }
}

/// Sends the next frame of every stream; false when they are coded in something else
/// than was set up.
async fn frames(
    connection: &mut Connection,
    writer: &mut Writer<impl AsyncWrite + Unpin>,
    udp: Option<&Udp>,
    scratch: &mut Vec<u8>,
) -> io::Result<bool> {
    let local = connection.local().ip();
    let Some(session) = &mut connection.session else {
        return Ok(true);
    };
    let mut more = false;
    for track in &mut session.tracks {
        let packets = match track.next() {
            Next::Nothing => continue,
            Next::Changed => return Ok(false),
            Next::Frame(packets) => packets,
        };
        more = true;
        match (track.transport(), udp) {
            (Transport::Tcp { .. }, _) => writer.frame(track.heads(), &packets).await?,
            (Transport::Udp { rtp, .. }, Some(udp)) => {
                udp.frame(local, rtp, track.heads(), &packets, scratch)
                    .await?;
                if track.is_catching_up() {
                    sleep(Duration::from_secs_f64(packets.bytes() as f64 / BURST)).await;
                }
            }
            (Transport::Udp { .. }, None) => {}
        }
    }
    if more {
        // Requests come first, then whatever else waits.
        connection.wake.notify_one();
    }
    Ok(true)
}

/// Tells the viewer which moments its packets' times mean.
async fn report(
    connection: &Connection,
    writer: &mut Writer<impl AsyncWrite + Unpin>,
    udp: Option<&Udp>,
) -> io::Result<()> {
    let Some(session) = &connection.session else {
        return Ok(());
    };
    for track in &session.tracks {
        let Some(report) = track.report() else {
            continue;
        };
        let bytes = report.to_bytes(session.camera());
        match (track.transport(), udp) {
            (Transport::Tcp { rtcp, .. }, _) => writer.packet(rtcp, &bytes).await?,
            (Transport::Udp { rtcp, .. }, Some(udp)) => udp.report(rtcp, &bytes).await,
            (Transport::Udp { .. }, None) => {}
        }
    }
    Ok(())
}
