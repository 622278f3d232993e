//! The manifest of a snapshot and its chunks in canonical CBOR (P79, P80). Every bound of a decoder is here.
use crate::answer::CertifiedHeader;
use crate::block::ValidatorSet;
use crate::error::Error;
use crate::hash::{sha256, Hash};
use crate::wire::{Decoder, Encoder};

/// A chunk is closed when it has so many bytes.
pub const CHUNK_BYTES: usize = 4 << 20;
/// No chunk has more: a record, a receipt or a header is less than the difference.
pub const MAX_CHUNK: usize = CHUNK_BYTES + (1 << 20);
/// No manifest has more.
pub const MAX_MANIFEST: usize = 32 << 20;
/// Set changes and chunks that a manifest may list; [`MAX_MANIFEST`] is reached before.
const MAX_LISTED: usize = 1 << 20;
const MAX_CERTIFIED: usize = 16 << 10;
const VERSION: u64 = 1;

/// What a chunk holds. Chunks stand in the order of these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChunkKind {
    /// Leaf hashes of the log, from height 0 on.
    Leaves = 0,
    /// Versions of the record of parameters.
    Configurations = 1,
    /// Headers and receipts of the heights whose ids are remembered.
    Heights = 2,
    /// Records of the state, ascending by path.
    Records = 3,
}

impl ChunkKind {
    fn parse(value: u64) -> Result<ChunkKind, Error> {
        use ChunkKind::{Configurations, Heights, Leaves, Records};
        let known = [Leaves, Configurations, Heights, Records];
        known.into_iter().find(|kind| *kind as u64 == value).ok_or_else(|| Error::malformed(format!("a chunk of the unknown kind {value}")))
    }
}

/// A chunk as the manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it holds.
    pub kind: ChunkKind,
    /// Its length.
    pub size: u64,
    /// Its SHA-256.
    pub hash: Hash,
}

/// A header that names another next set, with that set: one step of P75.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The header under the set before.
    pub block: CertifiedHeader,
    /// Who decides the next height.
    pub next: ValidatorSet,
}

/// What names a snapshot and binds its chunks to a certified header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which network.
    pub genesis: Hash,
    /// Number of records.
    pub records: u64,
    /// The header of the snapshot's height.
    pub block: CertifiedHeader,
    /// Every set change below that height, ascending.
    pub walk: Vec<Step>,
    /// The chunks, in order.
    pub chunks: Vec<Listed>,
}

impl Manifest {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(2_048 + 48 * self.chunks.len());
        out.array(6).uint(VERSION).bytes(&self.genesis).uint(self.records).bytes(&self.block.encode());
        out.array(self.walk.len());
        for step in &self.walk {
            out.array(2).bytes(&step.block.encode()).raw(&step.next.encode());
        }
        out.array(self.chunks.len());
        for chunk in &self.chunks {
            out.array(3).uint(chunk.kind as u64).uint(chunk.size).bytes(&chunk.hash);
        }
        out.finish()
    }

    /// Reads what [`Manifest::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Error> {
        if bytes.len() > MAX_MANIFEST {
            return Err(Error::malformed(format!("a manifest of {} bytes, more than the limit of {MAX_MANIFEST}", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(6)?;
        let version = decoder.uint()?;
        if version != VERSION {
            return Err(Error::malformed(format!("a snapshot of version {version}; this software reads version {VERSION}")));
        }
        let genesis = decoder.hash()?;
        let records = decoder.uint()?;
        let block = CertifiedHeader::decode(decoder.bytes(MAX_CERTIFIED)?)?;
        let count = decoder.list(MAX_LISTED, 64)?;
        let mut walk = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(2)?;
            let block = CertifiedHeader::decode(decoder.bytes(MAX_CERTIFIED)?)?;
            walk.push(Step { block, next: ValidatorSet::decode_next(&mut decoder)? });
        }
        let count = decoder.list(MAX_LISTED, 36)?;
        let mut chunks: Vec<Listed> = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(3)?;
            let kind = ChunkKind::parse(decoder.uint()?)?;
            let size = decoder.uint_to(MAX_CHUNK as u64)?;
            if size == 0 || chunks.last().is_some_and(|last| last.kind > kind) {
                return Err(Error::malformed("a manifest with an empty chunk, or chunks out of order"));
            }
            chunks.push(Listed { kind, size, hash: decoder.hash()? });
        }
        decoder.end()?;
        Ok(Manifest { genesis, records, block, walk, chunks })
    }

    /// Bytes of all chunks.
    pub fn size(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.size).sum()
    }
}

/// A chunk that is being filled: its entries are counted when it is closed, because CBOR says first how many there are.
pub(super) struct Filling {
    kind: ChunkKind,
    count: usize,
    entries: Encoder,
}

impl Filling {
    pub(super) fn new(kind: ChunkKind) -> Filling {
        Filling { kind, count: 0, entries: Encoder::with_capacity(CHUNK_BYTES + (1 << 16)) }
    }

    /// Where the next entry is written.
    pub(super) fn entry(&mut self) -> &mut Encoder {
        self.count += 1;
        &mut self.entries
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= CHUNK_BYTES
    }

    /// `[kind, [entries]]`, and how the manifest lists it.
    pub(super) fn close(self) -> (Listed, Vec<u8>) {
        let mut out = Encoder::with_capacity(self.entries.len() + 8);
        out.array(2).uint(self.kind as u64).array(self.count).raw(&self.entries.finish());
        let bytes = out.finish();
        (Listed { kind: self.kind, size: bytes.len() as u64, hash: sha256(&bytes) }, bytes)
    }
}

/// The entries of a chunk: a decoder that stands at the first, and how many there are. `least` is what an entry takes at least.
pub(super) fn entries(bytes: &[u8], kind: ChunkKind, least: usize) -> Result<(Decoder<'_>, usize), Error> {
    let mut decoder = Decoder::new(bytes);
    decoder.array_of(2)?;
    if decoder.uint()? != kind as u64 {
        return Err(Error::malformed("a chunk of another kind than the manifest lists it as"));
    }
    let count = decoder.list(MAX_CHUNK, least)?;
    Ok((decoder, count))
}
