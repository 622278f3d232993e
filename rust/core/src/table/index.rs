//! What is kept in memory of a table file, and the strict reader that makes it.
//!
//! A file is read once from its first byte to its last ([`Reader`]): form, order, every record, root and digest. What stays is an
//! [`Index`]: the hash of every subtree of 1,024 leaves that holds something, and where its entries stand in the file. For a full
//! table of a million that is about 80 kB. Whoever wants a leaf reads the bytes of its subtree again and hands them to the index,
//! which hashes them and believes nothing that does not give the hash that it keeps.
use super::file::{for_each_leaf, Entry, Head, Held, Run, MAX_ENTRY, MAX_HEAD};
use super::shape::Shapes;
use super::tree::{leaf_hash, Levels};
use super::{Leaf, TableProof};
use crate::error::Error;
use crate::hash::{sha256, Hash};
use crate::ledger::operation::NewTable;
use crate::record::MAX_RECORD;
use crate::wire::{Decoder, Encoder};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Levels below a kept subtree.
const LOW: u8 = 10;
/// Leaves of a kept subtree.
pub const PIECE: u32 = 1 << LOW;
const FORMAT: u64 = 1;
/// A million has 977 subtrees of 1,024.
const MAX_PIECES: usize = 977;

/// One subtree that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Which one: its leaves begin at `number * PIECE`.
    number: u32,
    hash: Hash,
    /// The bytes of the file that hold every entry that touches it.
    start: u64,
    end: u64,
}

/// See the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    head: Head,
    digest: Hash,
    size_bytes: u64,
    /// Where the entries begin.
    body: u64,
    pieces: Vec<Piece>,
    upper: Levels,
}

impl Index {
    fn new(head: Head, digest: Hash, size_bytes: u64, body: u64, pieces: Vec<Piece>) -> Index {
        let lowest = pieces.iter().map(|piece| (piece.number, piece.hash)).collect();
        let upper = Levels::build(LOW, head.depth(), lowest);
        Index { head, digest, size_bytes, body, pieces, upper }
    }

    /// The head of the file.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// Root of the table.
    pub fn root(&self) -> Hash {
        self.upper.root()
    }

    /// Length of the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Where its entries begin.
    pub fn body(&self) -> u64 {
        self.body
    }

    /// What an operation says of the table that it seals (P46).
    pub fn sealed(&self) -> NewTable {
        NewTable { root: self.root(), digest: self.digest, count: u64::from(self.head.count) }
    }

    /// The bytes of the file that hold the leaf of an index; none when its whole subtree is empty.
    pub fn bytes_of(&self, index: u32) -> Option<Range<u64>> {
        self.bytes_of_piece(index / PIECE)
    }

    /// The bytes of the file that hold a subtree of [`PIECE`] leaves; none when it is empty.
    pub fn bytes_of_piece(&self, number: u32) -> Option<Range<u64>> {
        self.piece(number).map(|piece| piece.start..piece.end)
    }

    /// How many subtrees of [`PIECE`] leaves the range has.
    pub fn pieces(&self) -> u32 {
        self.head.size().div_ceil(PIECE)
    }

    fn piece(&self, number: u32) -> Option<&Piece> {
        self.pieces.binary_search_by_key(&number, |piece| piece.number).ok().map(|at| &self.pieces[at])
    }

    /// The entries of a subtree from the bytes of [`Index::bytes_of_piece`], believed only when they give the hash that is kept.
    ///
    /// Errors: [`Error::Malformed`] when they do not.
    pub(super) fn entries<'b>(&self, number: u32, bytes: &'b [u8]) -> Result<Vec<Entry<'b>>, Error> {
        let entries = self.unchecked_entries(bytes)?;
        let (hash, _) = piece_levels(&self.head, &entries, number)?;
        if self.piece(number).map(|piece| piece.hash) != hash.map(|levels| levels.root()) {
            return Err(damaged());
        }
        Ok(entries)
    }

    fn unchecked_entries<'b>(&self, bytes: &'b [u8]) -> Result<Vec<Entry<'b>>, Error> {
        let mut entries = Vec::new();
        let mut decoder = Decoder::new(bytes);
        let mut least = 0;
        while !decoder.is_at_end() {
            let entry = Entry::decode(&mut decoder, self.head.size(), self.head.templates.len(), least)?;
            least = entry.last() + 1;
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Proves what the table holds at an index (P41), from the bytes of [`Index::bytes_of`].
    ///
    /// Errors: [`Error::Malformed`] when the index is outside the range, or the bytes are not those that were read at first.
    pub fn prove(&self, index: u32, bytes: &[u8]) -> Result<TableProof, Error> {
        super::check_index(self.head.depth(), index)?;
        let number = index / PIECE;
        let entries = self.unchecked_entries(bytes)?;
        let (levels, _) = piece_levels(&self.head, &entries, number)?;
        if self.piece(number).map(|piece| piece.hash) != levels.as_ref().map(Levels::root) {
            return Err(damaged());
        }
        let mut proof = TableProof { leaf: self.leaf(index, &entries)?, bitmap: 0, siblings: Vec::new() };
        if let Some(levels) = levels {
            levels.siblings(index % PIECE, &mut proof);
        }
        self.upper.siblings(number, &mut proof);
        Ok(proof)
    }

    /// The record at an index, from the bytes of [`Index::bytes_of`].
    ///
    /// Errors: as [`Index::prove`].
    pub fn record(&self, index: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        super::check_index(self.head.depth(), index)?;
        let entries = self.entries(index / PIECE, bytes)?;
        Ok(self.leaf(index, &entries)?.map(|leaf| leaf.record))
    }

    fn leaf(&self, index: u32, entries: &[Entry<'_>]) -> Result<Option<Leaf>, Error> {
        let mut found = None;
        for_each_leaf(&self.head, entries, (index, index + 1), |_, held| {
            found = Some(Leaf { salt: self.head.salt(index, held.record()), record: held.record().to_vec() });
            Ok(())
        })?;
        Ok(found)
    }

    /// The index as bytes, for a file beside the table, with their SHA-256 at the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(1_024 + self.pieces.len() * 64);
        out.array(6).uint(FORMAT);
        self.head.encode(&mut out);
        out.bytes(&self.digest).uint(self.size_bytes).uint(self.body).array(self.pieces.len());
        for piece in &self.pieces {
            out.array(4).uint(u64::from(piece.number)).bytes(&piece.hash).uint(piece.start).uint(piece.end);
        }
        let mut out = out.finish();
        out.extend_from_slice(&sha256(&out));
        out
    }

    /// Reads what [`Index::encode`] writes. What it says of the table file, the bytes of the file must still give.
    ///
    /// Errors: [`Error::Malformed`] when it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Index, Error> {
        let (fields, sum) = bytes.split_last_chunk::<32>().ok_or_else(|| Error::malformed("the index of a table is too short"))?;
        if sha256(fields) != *sum {
            return Err(Error::malformed("the index of a table is damaged: its bytes do not give the hash at its end"));
        }
        let mut decoder = Decoder::new(fields);
        decoder.array_of(6)?;
        let format = decoder.uint()?;
        if format != FORMAT {
            return Err(Error::malformed(format!("an index of format {format}; known: {FORMAT}")));
        }
        let head = Head::decode(&mut decoder)?;
        let (digest, size_bytes, body) = (decoder.hash()?, decoder.uint()?, decoder.uint()?);
        let count = decoder.list(MAX_PIECES, 37)?;
        let mut pieces: Vec<Piece> = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(4)?;
            let number = decoder.uint_to(u64::from(head.size().div_ceil(PIECE)) - 1)? as u32;
            let piece = Piece { number, hash: decoder.hash()?, start: decoder.uint()?, end: decoder.uint_to(size_bytes)? };
            if pieces.last().is_some_and(|last| last.number >= number) || piece.start >= piece.end {
                return Err(Error::malformed("the index of a table has subtrees that do not ascend, or have no bytes"));
            }
            pieces.push(piece);
        }
        decoder.end()?;
        Ok(Index::new(head, digest, size_bytes, body, pieces))
    }
}

fn cut_short() -> Error {
    Error::malformed("a table file without a head; it is cut short")
}

fn damaged() -> Error {
    Error::malformed("the bytes of the table file are not those that were read before; the file is damaged, fetch it again")
}

/// The hashes of one subtree of [`PIECE`] leaves and how many it holds, from entries that may reach beyond it; none when it is empty.
fn piece_levels(head: &Head, entries: &[Entry<'_>], number: u32) -> Result<(Option<Levels>, u32), Error> {
    let from = number * PIECE;
    let mut leaves: Vec<(u32, Hash)> = Vec::with_capacity(PIECE as usize);
    let mut shapes = Shapes::new(head);
    for_each_leaf(head, entries, (from, from + PIECE), |index, held| {
        let record = held.record();
        if let Held::Single(record) = held {
            shapes.of(index, record)?;
        }
        leaves.push((index - from, leaf_hash(index, &head.salt(index, record), record)));
        Ok(())
    })?;
    let count = leaves.len() as u32;
    Ok((if count == 0 { None } else { Some(Levels::build(0, LOW, leaves)) }, count))
}

/// The entries that touch one subtree of [`PIECE`] leaves; none where the table is empty.
#[derive(Debug)]
pub struct Subtree<'a> {
    /// Which one.
    pub number: u32,
    pub(super) entries: Vec<Entry<'a>>,
}

/// Which leaves of a range are taken, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied(Vec<u64>);

impl Occupied {
    /// None of a range of this size.
    pub fn new(size: u32) -> Occupied {
        Occupied(vec![0; size.div_ceil(64) as usize])
    }

    /// Takes a leaf; says whether it was free.
    pub fn take(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        let free = self.0[word] & bit == 0;
        self.0[word] |= bit;
        free
    }

    /// Whether a leaf is taken.
    pub fn holds(&self, index: u32) -> bool {
        self.0[index as usize / 64] & 1 << (index % 64) != 0
    }

    /// How many leaves are taken here or there.
    pub fn count_with(&self, other: &Occupied) -> u32 {
        self.0.iter().zip(&other.0).map(|(here, there)| (here | there).count_ones()).sum()
    }
}

/// A parsed entry whose subtrees are not all hashed yet; a record stands in the pending bytes.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Run(Run),
    Single(u32, usize, usize),
}

#[derive(Clone, Copy, Debug)]
struct Located {
    pending: Pending,
    /// Where the entry stands in the file.
    start: u64,
    end: u64,
}

impl Located {
    fn first(&self) -> u32 {
        match &self.pending {
            Pending::Run(run) => run.first,
            Pending::Single(index, ..) => *index,
        }
    }

    fn last(&self) -> u32 {
        match &self.pending {
            Pending::Run(run) => run.last(),
            Pending::Single(index, ..) => *index,
        }
    }
}

/// Reads a table file from pieces of any size, strictly. Keeps the bytes of one subtree and what was fed last.
#[derive(Debug)]
pub struct Reader {
    digest: Sha256,
    /// Bytes from `offset` of the file on; `parsed` of them are parsed.
    bytes: Vec<u8>,
    offset: u64,
    parsed: usize,
    head: Option<(Head, u64)>,
    entries: Vec<Located>,
    /// The least index that may come next, and the first subtree that is not hashed yet.
    next: u32,
    number: u32,
    pieces: Vec<Piece>,
    count: u64,
    occupied: Occupied,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new()
    }
}

impl Reader {
    /// Before the first byte.
    pub fn new() -> Reader {
        Reader {
            digest: Sha256::new(),
            bytes: Vec::new(),
            offset: 0,
            parsed: 0,
            head: None,
            entries: Vec::new(),
            next: 0,
            number: 0,
            pieces: Vec::new(),
            count: 0,
            occupied: Occupied::new(0),
        }
    }

    /// Takes the next bytes of the file.
    ///
    /// Errors: [`Error::Malformed`], with what is wrong; the reader is of no use then.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.feed_checked(chunk, |_| Ok(()))
    }

    /// The same, and shows each subtree that is here whole, those without entries too. What `check` refuses ends the reading.
    pub fn feed_checked<E: From<Error> + Send>(
        &mut self,
        chunk: &[u8],
        check: impl Fn(&Subtree<'_>) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        self.bytes.extend_from_slice(chunk);
        self.parse(false)?;
        let complete = self.next / PIECE;
        let mut digest = std::mem::take(&mut self.digest);
        let ((), hashed) = join(|| digest.update(chunk), || self.hash_pieces(complete, &check));
        self.digest = digest;
        self.take_hashed(complete, hashed?);
        Ok(())
    }

    /// The end of the file: its index, and which leaves it holds.
    ///
    /// Errors: [`Error::Malformed`] when something is missing or left over.
    pub fn finish(self) -> Result<(Index, Occupied), Error> {
        self.finish_checked(|_| Ok(()))
    }

    /// The same, and shows the subtrees that [`Reader::feed_checked`] has not shown.
    pub fn finish_checked<E: From<Error> + Send>(
        mut self,
        check: impl Fn(&Subtree<'_>) -> Result<(), E> + Sync,
    ) -> Result<(Index, Occupied), E> {
        self.parse(true)?;
        let Some((head, _)) = &self.head else { return Err(cut_short().into()) };
        let complete = head.size().div_ceil(PIECE);
        let hashed = self.hash_pieces(complete, check)?;
        self.take_hashed(complete, hashed);
        let size_bytes = self.offset + self.parsed as u64;
        let Some((head, body)) = self.head else { return Err(cut_short().into()) };
        if self.count != u64::from(head.count) {
            return Err(Error::malformed(format!("a table file with {} leaves, and its head says {}", self.count, head.count)).into());
        }
        Ok((Index::new(head, self.digest.finalize().into(), size_bytes, body, self.pieces), self.occupied))
    }

    /// Parses the entries that are here whole. An entry is only begun when it cannot be cut short, or nothing follows.
    fn parse(&mut self, at_end: bool) -> Result<(), Error> {
        if self.head.is_none() {
            if self.bytes.len() < MAX_HEAD && !at_end {
                return Ok(());
            }
            let mut decoder = Decoder::new(&self.bytes);
            let head = Head::decode(&mut decoder)?;
            self.parsed = decoder.position();
            self.occupied = Occupied::new(head.size());
            self.head = Some((head, self.parsed as u64));
        }
        let Some((head, _)) = &self.head else { return Ok(()) };
        let whole = if at_end { self.bytes.len() } else { self.bytes.len().saturating_sub(MAX_ENTRY) };
        let mut decoder = Decoder::new(&self.bytes[self.parsed..]);
        while self.parsed < whole || (at_end && !decoder.is_at_end()) {
            let begun = decoder.position();
            let entry = Entry::decode(&mut decoder, head.size(), head.templates.len(), self.next)?;
            let length = decoder.position() - begun;
            let pending = match entry {
                Entry::Run(run) => {
                    for index in run.within(0, head.size()) {
                        self.occupied.take(index);
                    }
                    Pending::Run(run)
                }
                Entry::Single(index, record) => {
                    self.occupied.take(index);
                    let end = self.parsed + length;
                    Pending::Single(index, end - record.len(), end)
                }
            };
            let start = self.offset + self.parsed as u64;
            self.entries.push(Located { pending, start, end: start + length as u64 });
            self.parsed += length;
            self.next = entry.last() + 1;
        }
        Ok(())
    }

    /// Hashes the subtrees below a number and shows them, on all cores with the feature `parallel`.
    fn hash_pieces<E: From<Error> + Send>(
        &self,
        below: u32,
        check: impl Fn(&Subtree<'_>) -> Result<(), E> + Sync,
    ) -> Result<Vec<(Piece, u32)>, E> {
        let Some((head, _)) = &self.head else { return Ok(Vec::new()) };
        let mut tasks = Vec::new();
        let mut from = 0;
        for number in self.number..below {
            let (low, high) = (number * PIECE, (number + 1) * PIECE);
            from += self.entries[from..].iter().take_while(|entry| entry.last() < low).count();
            let to = from + self.entries[from..].iter().take_while(|entry| entry.first() < high).count();
            tasks.push((number, &self.entries[from..to]));
        }
        let hash = |(number, located): (u32, &[Located])| -> Result<Option<(Piece, u32)>, E> {
            let subtree = Subtree { number, entries: located.iter().map(|entry| self.entry(entry)).collect() };
            let (levels, count) = piece_levels(head, &subtree.entries, number)?;
            check(&subtree)?;
            let (Some(first), Some(last), Some(levels)) = (located.first(), located.last(), levels) else { return Ok(None) };
            Ok(Some((Piece { number, hash: levels.root(), start: first.start, end: last.end }, count)))
        };
        let hashed: Vec<Option<(Piece, u32)>> = map_all(tasks, hash).into_iter().collect::<Result<_, E>>()?;
        Ok(hashed.into_iter().flatten().collect())
    }

    fn entry(&self, located: &Located) -> Entry<'_> {
        match located.pending {
            Pending::Run(run) => Entry::Run(run),
            Pending::Single(index, start, end) => Entry::Single(index, &self.bytes[start..end]),
        }
    }

    /// Keeps what was hashed and drops the bytes that nothing needs any more.
    fn take_hashed(&mut self, below: u32, hashed: Vec<(Piece, u32)>) {
        for (piece, count) in hashed {
            self.count += u64::from(count);
            self.pieces.push(piece);
        }
        self.number = self.number.max(below);
        let done = self.entries.iter().take_while(|entry| entry.last() / PIECE < self.number).count();
        self.entries.drain(..done);
        let records = self.entries.iter().find_map(|entry| match entry.pending {
            Pending::Single(_, start, _) => Some(start),
            Pending::Run(_) => None,
        });
        let unneeded = records.unwrap_or(self.parsed);
        self.bytes.drain(..unneeded);
        self.offset += unneeded as u64;
        self.parsed -= unneeded;
        for entry in &mut self.entries {
            if let Pending::Single(_, start, end) = &mut entry.pending {
                *start -= unneeded;
                *end -= unneeded;
            }
        }
    }
}

/// Runs both, at the same time with the feature `parallel`.
fn join<A: Send, B: Send>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B + Send) -> (A, B) {
    #[cfg(feature = "parallel")]
    return rayon::join(one, other);
    #[cfg(not(feature = "parallel"))]
    (one(), other())
}

/// Maps all, in order, on all cores with the feature `parallel`.
pub(super) fn map_all<T: Send, R: Send>(items: Vec<T>, map: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        items.into_par_iter().map(map).collect()
    }
    #[cfg(not(feature = "parallel"))]
    items.into_iter().map(map).collect()
}

const _: () = assert!(MAX_ENTRY > MAX_RECORD + 8);
