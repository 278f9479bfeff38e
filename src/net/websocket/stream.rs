//! The two halves of a WebSocket connection, as the loop of a connection wants them: a stream of bytes, above the halves of what
//! it goes over, plain or TLS.
//!
//! What a session sends at once is one message of one frame, which is written from where it lies. Pings and closes are answered
//! by the half that reads, since both halves belong to one task; between two frames, never within one.

#[cfg(test)]
mod tests;

use super::frames::{Decoder, End};
use crate::net::drive::{Input, Output};
use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// Pieces that are written at once, the header with them.
const SLICES_MAX: usize = 16;

/// What messages to the client are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Binary messages.
    Binary,
    /// Text messages, where what they hold is text; others are binary.
    Text,
}

/// Makes the halves of a WebSocket connection of those of a stream on which the upgrade is done.
pub(super) fn split<R, W>(reader: R, writer: W) -> (WebSocketInput<R, W>, WebSocketOutput<W>) {
    let sender =
        Sender { writer, form: Form::Binary, frame: Frame::default(), controls: Controls::default() };
    let sender = Arc::new(Mutex::new(sender));
    let first = BytesMut::new();
    let input = WebSocketInput { reader, decoder: Decoder::default(), first, sender: sender.clone() };
    (input, WebSocketOutput(sender))
}

/// What the client sends.
pub(in crate::net) struct WebSocketInput<R, W> {
    reader: R,
    decoder: Decoder,
    /// What was read before the session was there.
    first: BytesMut,
    sender: Arc<Mutex<Sender<W>>>,
}

impl<R: Input, W: Output> WebSocketInput<R, W> {
    /// The first byte that the client sends, which comes again when the session reads. None when it sends nothing any more.
    ///
    /// # Errors
    /// When what it goes over fails, or the client sends what is not allowed.
    pub(super) async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        let mut first = [0; 1];
        let read = tokio::io::AsyncReadExt::read(self, &mut first).await?;
        self.first.extend_from_slice(&first[..read]);
        Ok(self.first.first().copied())
    }
}

impl<R: Input, W: Output> AsyncRead for WebSocketInput<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.first.is_empty() {
            let count = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first.split_to(count));
            return Poll::Ready(Ok(()));
        }
        loop {
            // What has not left yet wakes this task when it can; reading goes on meanwhile.
            if let Poll::Ready(Err(error)) = this.sender.lock().poll_send_controls(context) {
                return Poll::Ready(Err(error));
            }
            match this.decoder.end() {
                None => {}
                Some(End::Closed(_)) => return Poll::Ready(Ok(())),
                Some(End::Violated(violation)) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation.reason)));
                }
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.reader).poll_read(context, buffer))?;
            let read = &mut buffer.filled_mut()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let payload = this.decoder.decode(read);
            buffer.set_filled(before + payload);
            this.answer();
            if payload > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<R, W: Output> WebSocketInput<R, W> {
    /// Answers what is the client's to ask of WebSocket itself.
    fn answer(&mut self) {
        let (ping, end) = (self.decoder.take_ping(), self.decoder.end());
        if ping.is_none() && end.is_none() {
            return;
        }
        let mut sender = self.sender.lock();
        if let Some(payload) = ping {
            sender.controls.pong = Some(payload);
        }
        match end {
            None => {}
            Some(End::Closed(code)) => sender.close(code),
            Some(End::Violated(violation)) => sender.close(Some(violation.code)),
        }
    }
}

impl<R: Input, W: Output> Input for WebSocketInput<R, W> {
    async fn hung_up(&self) {
        self.reader.hung_up().await;
    }
}

/// What the client is sent.
pub(in crate::net) struct WebSocketOutput<W>(Arc<Mutex<Sender<W>>>);

impl<W> WebSocketOutput<W> {
    /// From now on messages are such ones; before they are binary.
    pub(super) fn set_form(&self, form: Form) {
        self.0.lock().form = form;
    }
}

/// The way to the client, which both halves use.
struct Sender<W> {
    writer: W,
    form: Form,
    frame: Frame,
    controls: Controls,
}

/// Control frames for the client.
#[derive(Default)]
struct Controls {
    /// The one that is on its way.
    leaving: BytesMut,
    /// It has been written, and is to be flushed.
    flushes: bool,
    /// What the next pong carries. Of several pings that came meanwhile only the last one is answered, so that a client can't
    /// have pongs pile up.
    pong: Option<Vec<u8>>,
    /// The payload of the close frame. Nothing comes behind that.
    close: Option<Vec<u8>>,
    has_closed: bool,
}

impl Controls {
    /// Whether none waits.
    fn is_empty(&self) -> bool {
        self.leaving.is_empty() && !self.flushes && self.pong.is_none() && self.close.is_none()
    }

    /// What is to be written next of them.
    fn next(&mut self) -> &mut BytesMut {
        if self.leaving.is_empty() {
            if let Some(payload) = self.pong.take() {
                put_control(&mut self.leaving, Control::Pong, &payload);
            } else if let Some(payload) = self.close.take() {
                put_control(&mut self.leaving, Control::Close, &payload);
            }
        }
        &mut self.leaving
    }
}

/// The frame that is on its way: the next bytes that are written belong to it.
#[derive(Default)]
struct Frame {
    header: BytesMut,
    payload_left: u64,
}

impl Frame {
    fn is_whole(&self) -> bool {
        self.header.is_empty() && self.payload_left == 0
    }
}

impl<W: Output> Sender<W> {
    /// Has the client closed with that code, unless it is already.
    fn close(&mut self, code: Option<CloseCode>) {
        if !std::mem::replace(&mut self.controls.has_closed, true) {
            let code = code.map(|code| u16::from(code).to_be_bytes().to_vec());
            self.controls.close = Some(code.unwrap_or_default());
        }
    }

    /// Sends the control frames that wait, unless another frame has to leave before. Ready when there are none any more.
    fn poll_send_controls(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.controls.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.frame.is_whole() {
            // The half that writes the rest of it comes by here again.
            return Poll::Pending;
        }
        loop {
            let leaving = self.controls.next();
            if leaving.is_empty() {
                break;
            }
            let written = ready!(Pin::new(&mut self.writer).poll_write(context, leaving))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            leaving.advance(written);
            self.controls.flushes = true;
        }
        ready!(Pin::new(&mut self.writer).poll_flush(context))?;
        self.controls.flushes = false;
        Poll::Ready(Ok(()))
    }

    /// Begins the frame that carries what is to be written.
    fn begin_frame(&mut self, slices: &[IoSlice<'_>]) {
        let all = slices.iter().map(|slice| slice.len()).sum();
        let (data, bytes) = match self.form {
            Form::Binary => (Data::Binary, all),
            Form::Text => {
                // A message ends where a character does. What is shared out over several pieces is large, and seldom text.
                let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
                match std::str::from_utf8(first) {
                    Ok(_) => (Data::Text, first.len()),
                    Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
                        (Data::Text, error.valid_up_to())
                    }
                    Err(_) => (Data::Binary, first.len()),
                }
            }
        };
        put_header(&mut self.frame.header, OpCode::Data(data), bytes as u64);
        self.frame.payload_left = bytes as u64;
    }

    /// Writes some of the pieces, in the frame that is on its way or in a new one. Returns how many bytes of them have left.
    fn poll_write_pieces(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.frame.is_whole() {
            if slices.iter().all(|slice| slice.is_empty()) {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_send_controls(context))?;
            self.begin_frame(slices);
        }
        loop {
            let mut left = usize::try_from(self.frame.payload_left).unwrap_or(usize::MAX);
            let mut pieces = [IoSlice::new(&[]); SLICES_MAX];
            let (first, rest) = pieces.split_first_mut().expect("there is room for the header");
            *first = IoSlice::new(&self.frame.header);
            for (piece, slice) in rest.iter_mut().zip(slices) {
                let count = slice.len().min(left);
                *piece = IoSlice::new(&slice[..count]);
                left -= count;
            }
            let written = ready!(Pin::new(&mut self.writer).poll_write_vectored(context, &pieces))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_header = written.min(self.frame.header.len());
            self.frame.header.advance(of_header);
            let of_payload = written - of_header;
            self.frame.payload_left -= of_payload as u64;
            if of_payload > 0 {
                return Poll::Ready(Ok(of_payload));
            }
        }
    }
}

fn put_header(out: &mut BytesMut, opcode: OpCode, bytes: u64) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(bytes, &mut out.writer()).expect("memory takes what is written to it");
}

fn put_control(out: &mut BytesMut, kind: Control, payload: &[u8]) {
    put_header(out, OpCode::Control(kind), payload.len() as u64);
    out.put_slice(payload);
}

impl<W: Output> AsyncWrite for WebSocketOutput<W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write_pieces(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write_pieces(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sender = self.0.lock();
        ready!(sender.poll_send_controls(context))?;
        Pin::new(&mut sender.writer).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sender = self.0.lock();
        sender.close(Some(CloseCode::Normal));
        // Within a frame that is not whole a close frame would be taken for a part of it.
        if sender.frame.is_whole() {
            ready!(sender.poll_send_controls(context))?;
        }
        Pin::new(&mut sender.writer).poll_shutdown(context)
    }
}

impl<W: Output> Output for WebSocketOutput<W> {
    fn holds_bytes(&self) -> bool {
        let sender = self.0.lock();
        !sender.controls.is_empty() || sender.writer.holds_bytes()
    }

    fn reset(&mut self) {
        self.0.lock().writer.reset();
    }
}
