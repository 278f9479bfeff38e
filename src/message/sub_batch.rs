//! Sub-batches of the stream protocol: many messages that a publisher sends as one entry, compressed as a whole or not.
//!
//! What they announce is checked as RabbitMQ 4.3 does; that it is true is found when they are unpacked. What comes out is never more
//! than was announced, whatever the bytes are.

use super::Reader;
use crate::steps;
use bytes::Bytes;
use std::io::{self, Read};

/// The most bytes that a sub-batch may have when it is unpacked.
pub const UNCOMPRESSED_BYTES_MAX: u32 = 64 << 20;

/// Bytes that a reader of zstd may have to look back, besides those of the batch itself: what every reader has to have.
const ZSTD_WINDOW_BYTES: u64 = 8 << 20;

/// How the data of a sub-batch is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
    /// With Snappy, as a stream of frames or as one block.
    Snappy,
    /// With LZ4, in its frame format.
    Lz4,
    /// With Zstandard.
    Zstd,
}

/// Why a sub-batch is refused.
#[derive(Debug, thiserror::Error)]
pub enum SubBatchError {
    /// A compression that there is not.
    #[error("there is no compression {0}")]
    UnknownCodec(u8),
    /// It announces nothing.
    #[error("it has no messages")]
    NoMessages,
    /// It announces more messages than could be in it.
    #[error("it announces {records} messages in {bytes} bytes")]
    TooManyMessages {
        /// How many it announces.
        records: u16,
        /// In how many bytes.
        bytes: u32,
    },
    /// It has no data.
    #[error("it has no data")]
    Empty,
    /// It announces more bytes than are unpacked.
    #[error("it announces {0} bytes, where {UNCOMPRESSED_BYTES_MAX} are allowed")]
    TooLarge(u32),
    /// Its data can't be decompressed.
    #[error("it can't be decompressed: {0}")]
    Corrupt(#[from] io::Error),
    /// It has more or fewer bytes than it announces.
    #[error("it has not the {0} bytes that it announces")]
    WrongLength(u32),
    /// Its bytes are not as many messages as it announces.
    #[error("it has not the {0} messages that it announces")]
    WrongCount(u16),
}

impl Codec {
    /// The compression of that number.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(number: u8) -> Result<Codec, SubBatchError> {
        Ok(match number {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            number => return Err(SubBatchError::UnknownCodec(number)),
        })
    }
}

/// What a sub-batch announces, which is all that can be said of it before it is unpacked.
///
/// # Errors
/// When RabbitMQ 4.3 refuses it, too: an unknown compression, no messages, more than there is room for, no data, or more than 64 MiB.
pub fn check(codec: u8, records: u16, uncompressed: u32, data: &[u8]) -> Result<Codec, SubBatchError> {
    let codec = Codec::of(codec)?;
    if records == 0 {
        return Err(SubBatchError::NoMessages);
    }
    if uncompressed > UNCOMPRESSED_BYTES_MAX {
        return Err(SubBatchError::TooLarge(uncompressed));
    }
    if u32::from(records) * 4 > uncompressed {
        return Err(SubBatchError::TooManyMessages { records, bytes: uncompressed });
    }
    if data.is_empty() {
        return Err(SubBatchError::Empty);
    }
    Ok(codec)
}

/// Takes a sub-batch apart: the entries in it, in order. `uncompressed` is how many bytes it announces.
///
/// # Errors
/// When [`check`] says so, or what it has is not what it announces.
pub fn unpack(codec: u8, records: u16, uncompressed: u32, data: &Bytes) -> Result<Vec<Bytes>, SubBatchError> {
    let codec = check(codec, records, uncompressed, data)?;
    let unpacked = decompressed(codec, uncompressed, data)?;
    if unpacked.len() != uncompressed as usize {
        return Err(SubBatchError::WrongLength(uncompressed));
    }
    let mut reader = Reader::new(&unpacked);
    let mut entries = Vec::with_capacity(records.into());
    for _ in 0..records {
        steps::count(1);
        let entry = reader.long_str().map_err(|_| SubBatchError::WrongCount(records))?;
        let end = unpacked.len() - reader.rest().len();
        entries.push(unpacked.slice(end - entry.len()..end));
    }
    reader.finish().map_err(|_| SubBatchError::WrongCount(records))?;
    Ok(entries)
}

/// The data, decompressed: one byte more than announced at most.
fn decompressed(codec: Codec, announced: u32, data: &Bytes) -> Result<Bytes, SubBatchError> {
    match codec {
        Codec::None => Ok(data.clone()),
        Codec::Gzip => read(flate2::read::GzDecoder::new(&data[..]), announced),
        Codec::Snappy if data.starts_with(SNAPPY_FRAMES) => {
            read(snap::read::FrameDecoder::new(&data[..]), announced)
        }
        Codec::Snappy => snappy_block(data, announced),
        Codec::Lz4 => read(lz4_flex::frame::FrameDecoder::new(&data[..]), announced),
        Codec::Zstd => {
            let window = ZSTD_WINDOW_BYTES.max(announced.into());
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(&data[..], window);
            read(decoder.map_err(io::Error::other)?, announced)
        }
    }
}

/// What a stream of frames of Snappy begins with.
const SNAPPY_FRAMES: &[u8] = b"\xff\x06\0\0sNaPpY";

fn snappy_block(data: &[u8], announced: u32) -> Result<Bytes, SubBatchError> {
    let length = snap::raw::decompress_len(data).map_err(io::Error::other)?;
    if length != announced as usize {
        return Err(SubBatchError::WrongLength(announced));
    }
    let unpacked = snap::raw::Decoder::new().decompress_vec(data).map_err(io::Error::other)?;
    Ok(unpacked.into())
}

/// How much memory is taken at once, before what was announced is there.
const RESERVED_BYTES_MAX: usize = 1 << 20;

fn read(decoder: impl Read, announced: u32) -> Result<Bytes, SubBatchError> {
    let mut unpacked = Vec::with_capacity((announced as usize).min(RESERVED_BYTES_MAX));
    decoder.take(u64::from(announced) + 1).read_to_end(&mut unpacked)?;
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages, as gzip, python-snappy's successor, lz4 and zstd have compressed them.
    const PACKED: &[(u8, &str)] = &[
        (
            0,
            "000000056669727374000000000000003b7468697264207468697264207468697264207468697264207468697264207468697264
             207468697264207468697264207468697264207468697264",
        ),
        (
            1,
            "1f8b0800000000000203636060604dcb2c2a2e618000eb928ccca21405b248006e5de4044c000000",
        ),
        (2, "ff060000734e61507059001d0000e7f3b2a34c24000000056669727374000901183b746869726420d20600"),
        (2, "4c24000000056669727374000901183b746869726420d20600"),
        (
            3,
            "04224d185440ae1e000000a20000000566697273740001007f3b74686972642006001d5074686972649bb523b6000000002f661b4f",
        ),
        (4, "28b52ffd204ccd000088000000056669727374003b74686972642002004a39060348"),
    ];

    fn packed(hex: &str) -> Bytes {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn every_compression_is_unpacked() {
        let third = ["third"; 10].join(" ");
        for (codec, hex) in PACKED {
            let entries = unpack(*codec, 3, 76, &packed(hex)).unwrap();
            assert_eq!(entries, [&b"first"[..], b"", third.as_bytes()], "{codec}");
        }
    }

    #[test]
    fn what_is_announced_wrongly_is_refused() {
        let data = packed(PACKED[0].1);
        let refused = |codec, records, bytes, data: &Bytes| {
            unpack(codec, records, bytes, data).map_err(|error| error.to_string()).unwrap_err()
        };
        assert_eq!(refused(5, 3, 76, &data), "there is no compression 5");
        assert_eq!(refused(0, 0, 76, &data), "it has no messages");
        assert_eq!(refused(0, 20, 76, &data), "it announces 20 messages in 76 bytes");
        assert_eq!(refused(0, 3, 76, &Bytes::new()), "it has no data");
        assert!(refused(1, 3, UNCOMPRESSED_BYTES_MAX + 1, &data).contains("where 67108864 are allowed"));
        for (codec, hex) in PACKED {
            let data = packed(hex);
            for bytes in [75, 77] {
                let why = refused(*codec, 3, bytes, &data);
                assert_eq!(why, format!("it has not the {bytes} bytes that it announces"), "{codec}");
            }
            for records in [2, 4] {
                let why = refused(*codec, records, 76, &data);
                assert_eq!(why, format!("it has not the {records} messages that it announces"), "{codec}");
            }
        }
    }

    #[test]
    fn damaged_and_cut_data_is_refused_and_never_more_than_was_announced() {
        for (codec, hex) in &PACKED[1..] {
            let data = packed(hex);
            for at in 0..data.len() {
                assert!(unpack(*codec, 3, 76, &data.slice(..at)).is_err() || at + 8 >= data.len());
                let mut damaged = data.to_vec();
                damaged[at] ^= 0x20;
                if let Ok(entries) = unpack(*codec, 3, 76, &damaged.into()) {
                    assert_eq!(entries.iter().map(Bytes::len).sum::<usize>(), 64);
                }
            }
        }
        // 4 MiB of nothing in a few bytes.
        let mut bomb = Vec::new();
        let nothing = vec![0; 4 << 20];
        flate2::read::GzEncoder::new(&nothing[..], flate2::Compression::best())
            .read_to_end(&mut bomb)
            .unwrap();
        assert!(matches!(unpack(1, 1, 100, &bomb.into()), Err(SubBatchError::WrongLength(100))));
    }
}
