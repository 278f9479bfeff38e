//! Frames against byte vectors, over pipes in memory of a few bytes or many.

use super::*;
use std::task::Waker;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};

type Reader = WebSocketInput<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;
type Writer = WebSocketOutput<WriteHalf<DuplexStream>>;

/// A client, and both halves of the broker's end. The pipe between them holds that many bytes each way.
fn connect(pipe_bytes: usize) -> (DuplexStream, Reader, Writer) {
    let (client, broker) = tokio::io::duplex(pipe_bytes);
    let (reader, writer) = tokio::io::split(broker);
    let (reader, writer) = split(reader, writer);
    (client, reader, writer)
}

/// A frame of a client whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}

/// Polls once.
fn poll_read(reader: &mut Reader, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(bytes);
    let context = &mut Context::from_waker(Waker::noop());
    let read = Pin::new(reader).poll_read(context, &mut buffer);
    read.map_ok(|()| buffer.filled().len())
}

fn poll_write(writer: &mut Writer, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(writer).poll_write(&mut Context::from_waker(Waker::noop()), bytes)
}

async fn read_some(client: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let read = client.read(&mut bytes).await.unwrap();
    bytes.truncate(read);
    bytes
}

#[tokio::test]
async fn a_ping_is_answered_by_reading_alone() {
    let (mut client, mut reader, writer) = connect(4096);
    client.write_all(&[frame(0x89, b"old"), frame(0x89, b"hello")].concat()).await.unwrap();
    assert!(poll_read(&mut reader, &mut [0; 64]).is_pending());
    assert!(!writer.holds_bytes());
    assert_eq!(read_some(&mut client).await, b"\x8a\x05hello");
}

#[tokio::test]
async fn a_pong_waits_until_the_frame_before_it_has_left() {
    let (mut client, mut reader, mut writer) = connect(16);
    let message = [b'm'; 100];
    let mut written = match poll_write(&mut writer, &message) {
        Poll::Ready(Ok(written)) => written,
        other => panic!("{other:?}"),
    };
    assert_eq!(written, 14, "two bytes were for the header");
    client.write_all(&frame(0x89, b"p")).await.unwrap();
    assert!(poll_read(&mut reader, &mut [0; 64]).is_pending());
    assert!(writer.holds_bytes());
    let mut got = Vec::new();
    while got.len() < 2 + message.len() + 3 {
        if written < message.len()
            && let Poll::Ready(count) = poll_write(&mut writer, &message[written..])
        {
            written += count.unwrap();
        }
        // A flush is what the loop of a connection calls for when all is written.
        if written == message.len() {
            let _ = Pin::new(&mut writer).poll_flush(&mut Context::from_waker(Waker::noop()));
        }
        got.extend(read_some(&mut client).await);
    }
    assert_eq!(got, [&b"\x82\x64"[..], &message, b"\x8a\x01p"].concat());
    assert!(!writer.holds_bytes());
}

#[tokio::test]
async fn pings_of_a_client_that_reads_nothing_do_not_pile_up() {
    let (mut client, mut reader, writer) = connect(16);
    for number in 0..1000_u16 {
        let ping = frame(0x89, &number.to_be_bytes());
        client.write_all(&ping).await.unwrap();
        assert!(poll_read(&mut reader, &mut [0; 64]).is_pending());
    }
    let sender = writer.0.lock();
    assert!(sender.controls.leaving.len() <= 4);
    assert_eq!(sender.controls.pong.as_deref(), Some(&999_u16.to_be_bytes()[..]));
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_ends_the_stream() {
    let (mut client, mut reader, mut writer) = connect(4096);
    let close = frame(0x88, &[&1001_u16.to_be_bytes()[..], b"leaving"].concat());
    client.write_all(&[frame(0x82, b"last"), close].concat()).await.unwrap();
    let mut bytes = [0; 64];
    assert_eq!(reader.read(&mut bytes).await.unwrap(), 4);
    assert_eq!(reader.read(&mut bytes).await.unwrap(), 0);
    writer.shutdown().await.unwrap();
    let mut got = Vec::new();
    drop((reader, writer));
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"\x88\x02\x03\xe9", "one close, and nothing behind it");
}

#[tokio::test]
async fn what_is_not_allowed_fails_and_is_answered_with_a_code() {
    for (bad, code) in [(vec![0x82, 0x01, b'x'], 1002_u16), (frame(0x81, b"\xff"), 1007)] {
        let (mut client, mut reader, mut writer) = connect(4096);
        client.write_all(&bad).await.unwrap();
        let error = reader.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        writer.shutdown().await.unwrap();
        assert_eq!(read_some(&mut client).await, [&b"\x88\x02"[..], &code.to_be_bytes()].concat());
    }
}

#[tokio::test]
async fn a_session_that_ends_closes() {
    let (mut client, _reader, mut writer) = connect(4096);
    writer.write_all(b"bye").await.unwrap();
    writer.shutdown().await.unwrap();
    assert_eq!(read_some(&mut client).await, b"\x82\x03bye\x88\x02\x03\xe8");
}

#[tokio::test]
async fn no_close_is_put_into_a_frame_that_is_not_whole() {
    let (mut client, reader, mut writer) = connect(16);
    assert!(matches!(poll_write(&mut writer, &[b'm'; 100]), Poll::Ready(Ok(14))));
    writer.shutdown().await.unwrap();
    drop((reader, writer));
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, [&b"\x82\x64"[..], &[b'm'; 14]].concat());
}

#[tokio::test]
async fn what_is_sent_at_once_is_one_message() {
    let (mut client, _reader, mut writer) = connect(1 << 20);
    let pieces = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b" two")];
    assert_eq!(writer.write_vectored(&pieces).await.unwrap(), 7);
    assert_eq!(read_some(&mut client).await, b"\x82\x07one two");
    let long = vec![b'l'; 300];
    writer.write_all(&long).await.unwrap();
    assert_eq!(read_some(&mut client).await, [&b"\x82\x7e\x01\x2c"[..], &long].concat());
    let longer = vec![b'l'; 70_000];
    writer.write_all(&longer).await.unwrap();
    let mut got = vec![0; 10 + longer.len()];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [&b"\x82\x7f\0\0\0\0\0\x01\x11\x70"[..], &longer].concat());
}

#[tokio::test]
async fn text_is_sent_as_text_and_anything_else_is_not() {
    let (mut client, _reader, mut writer) = connect(4096);
    writer.set_form(Form::Text);
    writer.write_all("héllo".as_bytes()).await.unwrap();
    writer.write_all(b"\xff\xfe").await.unwrap();
    // A character in two pieces: the message ends before it.
    writer.write_all(b"h\xc3").await.unwrap();
    let sent = [&b"\x81\x06h\xc3\xa9llo"[..], b"\x82\x02\xff\xfe", b"\x81\x01h", b"\x82\x01\xc3"].concat();
    assert_eq!(read_some(&mut client).await, sent);
}

#[tokio::test]
async fn the_first_byte_is_read_once_more() {
    let (mut client, mut reader, _writer) = connect(4096);
    client.write_all(&[frame(0x89, b""), frame(0x82, b"AMQP")].concat()).await.unwrap();
    assert_eq!(reader.first_byte().await.unwrap(), Some(b'A'));
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"AMQP");
    drop(client);
    assert_eq!(reader.first_byte().await.unwrap(), None);
}
