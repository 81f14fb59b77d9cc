//! A WebSocket (RFC 6455) whose pictures go out from the memory that all viewers share.
//!
//! tungstenite copies what it sends, and keeps the copy for as long as the viewer takes to
//! read it. So pictures pass it by: each is written as a frame of its own, between two of
//! tungstenite's, which does all the rest.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::{Buf, Bytes};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
pub use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
pub use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::answer::Refusal;

/// The largest message of a client, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Bytes that are read at a time.
const READ: usize = 4 << 10;

/// The relay's end of a WebSocket.
pub struct Socket<S = TokioIo<Upgraded>>(WebSocketStream<S>);

/// Answers `request` by becoming a WebSocket, which `talk` has then.
///
/// # Errors
/// A refusal (400) where the request asks for something else.
pub fn upgrade<F>(
    mut request: Request,
    talk: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response, Refusal>
where
    F: Future<Output = ()> + Send,
{
    let answer = create_response_with_body(&request, Body::empty).map_err(|error| {
        let why = format!("this is a WebSocket, and the request is none for one: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, why)
    })?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => talk(Socket::over(TokioIo::new(upgraded)).await).await,
            Err(error) => tracing::debug!("http: a WebSocket does not begin: {error}"),
        }
    });
    Ok(answer)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    async fn over(stream: S) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        Self(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
    }

    /// What the client says next; `None` when it is gone. Its pings are answered meanwhile.
    pub async fn hear(&mut self) -> Result<Option<Message>, Error> {
        self.0.next().await.transpose()
    }

    /// Says something, which is copied.
    pub async fn say(&mut self, message: Message) -> Result<(), Error> {
        self.0.send(message).await
    }

    /// Shows a picture, as a binary message of both one after the other. Of `picture` there
    /// is no copy. Nothing else may be sent after this is dropped halfway.
    pub async fn show(&mut self, head: &[u8], picture: Bytes) -> Result<(), Error> {
        // A pong may be on its way in part.
        self.0.flush().await?;
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            ..FrameHeader::default()
        };
        let mut frame = Vec::new();
        header.format((head.len() + picture.len()) as u64, &mut frame)?;
        frame.extend_from_slice(head);
        let stream = self.0.get_mut();
        stream.write_all_buf(&mut frame.chain(picture)).await?;
        stream.flush().await?;
        Ok(())
    }

    /// Ends it; of a client that ends it itself this is the answer.
    pub async fn close(mut self, code: CloseCode, why: &'static str) {
        let reason = why.into();
        let frame = CloseFrame { code, reason };
        // Refused where the client ends it: the answer is only to be written then. Who went
        // away hears neither.
        let _ = self.0.send(Message::Close(Some(frame))).await;
        let _ = SinkExt::close(&mut self.0).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;

    /// A client that is not there; it takes everything, and notes where that lies.
    #[derive(Default)]
    struct Taken(Vec<(usize, usize)>);

    impl AsyncRead for Taken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Taken {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let places = pieces
                .iter()
                .map(|piece| (piece.as_ptr() as usize, piece.len()));
            self.0.extend(places);
            Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.build().expect("a runtime").block_on(test);
    }

    #[test]
    fn a_picture_is_written_from_where_it_lies() {
        run(async {
            let picture = Bytes::from(vec![7; 100_000]);
            let mut socket = Socket::over(Taken::default()).await;
            socket.show(&[1; 24], picture.clone()).await.expect("sent");
            let taken = &socket.0.get_ref().0;
            assert_eq!(taken[1..], [(picture.as_ptr() as usize, picture.len())]);
            assert_eq!(taken[0].1, 10 + 24, "the header of a large frame");
        });
    }

    #[test]
    fn pictures_of_any_length_arrive_between_what_else_is_said() {
        run(async {
            let (near, far) = tokio::io::duplex(1000);
            let mut socket = Socket::over(near).await;
            let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
            let lengths = [0, 99, 125, 126, 65_535, 65_536, 1_000_000];
            let shows = async {
                for length in lengths {
                    let said = socket.hear().await.expect("it is there");
                    assert_eq!(said, Some(Message::Ping("?".into())));
                    let picture = Bytes::from(vec![7; length]);
                    socket.show(b"head", picture).await.expect("it is there");
                    let text = Message::text(length.to_string());
                    socket.say(text).await.expect("it is there");
                }
                assert!(matches!(socket.hear().await, Ok(Some(Message::Close(_)))));
                socket.close(CloseCode::Normal, "").await;
            };
            let sees = async {
                for length in lengths {
                    client.send(Message::Ping("?".into())).await.expect("sent");
                    let mut next = async || client.next().await.expect("more").expect("good");
                    assert_eq!(next().await, Message::Pong("?".into()));
                    let picture = next().await.into_data();
                    assert_eq!(picture[..4], *b"head");
                    assert_eq!(picture[4..], vec![7; length]);
                    assert_eq!(next().await, Message::text(length.to_string()));
                }
                client.close(None).await.expect("sent");
                assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
                assert!(client.next().await.is_none(), "it ended in good order");
            };
            tokio::join!(shows, sees);
        });
    }
}
