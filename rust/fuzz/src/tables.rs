//! Sealed tables: a file read as a stream, the index beside it, proofs of single leaves, and the rows that a holder writes.
use crate::golden::read;
use cityid_core::code::{City, Class, Model, Serial, Use};
use cityid_core::hash::{sha256, Hash};
use cityid_core::ledger::operation::Range;
use cityid_core::table::build::{Builder, Spec};
use cityid_core::table::index::{Index, Occupied, Reader};
use cityid_core::table::{SealedTable, TableProof};
use cityid_core::wire::{Decoder, Encoder};
use std::sync::OnceLock;

fn read_whole(data: &[u8], chunk: usize) -> Option<(Index, Occupied)> {
    let mut reader = Reader::new();
    for part in data.chunks(chunk) {
        reader.feed(part).ok()?;
    }
    reader.finish().ok()
}

/// [`Reader`] on a whole file, in two ways of cutting it; what it took proves each of its leaves.
pub(crate) fn file(data: &[u8]) {
    let whole = read_whole(data, usize::MAX);
    assert_eq!(read_whole(data, 97).map(|(index, _)| index), whole.as_ref().map(|(index, _)| index.clone()), "however it is cut");
    let Some((index, occupied)) = whole else { return };
    assert_eq!((index.digest(), index.size_bytes()), (sha256(data), data.len() as u64));
    assert_eq!(Index::decode(&index.encode()).as_ref(), Ok(&index));
    let mut found = 0;
    for leaf in (0..index.head().size().min(1_000)).filter(|leaf| occupied.holds(*leaf)).take(8) {
        let bytes = index.bytes_of(leaf).expect("the bytes of a leaf that is held");
        let part = &data[bytes.start as usize..bytes.end as usize];
        let proof = index.prove(leaf, part).expect("a leaf that is held");
        assert!(proof.leaf.is_some());
        assert_eq!(proof.verify(&index.root(), index.head().depth(), leaf), Ok(()));
        found += 1;
    }
    assert!(found > 0 || index.head().count == 0 || index.head().size() > 1_000);
}

/// [`Index::decode`], which also takes what has its hash at the end; a piece of the golden file is then read with it.
pub(crate) fn index(data: &[u8]) {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| read("table-file.hex"));
    let hashed = [data, &sha256(data)].concat();
    for bytes in [data, &hashed] {
        let Ok(index) = Index::decode(bytes) else { continue };
        assert_eq!(index.encode(), bytes);
        for leaf in [0, 3, 999] {
            let Some(place) = index.bytes_of(leaf) else { continue };
            if let Some(part) = table.get(place.start as usize..place.end as usize) {
                if let Ok(proof) = index.prove(leaf, part) {
                    assert_eq!(proof.verify(&index.root(), index.head().depth(), leaf), Ok(()));
                }
            }
        }
    }
}

/// `index(2)`, then a proof; it verifies under no root but its own.
pub(crate) fn proof(data: &[u8]) {
    let Some((index, data)) = data.split_first_chunk::<2>() else { return };
    let index = u32::from(u16::from_be_bytes(*index));
    let mut decoder = Decoder::new(data);
    let Ok(proof) = TableProof::decode(&mut decoder) else { return };
    let mut out = Encoder::new();
    proof.encode(&mut out);
    assert_eq!(out.finish(), data[..decoder.position()]);
    let table = table();
    for depth in [9, 10, 20] {
        if proof.verify(&table.root(), depth, index).is_ok() {
            let leaf = proof.leaf.as_ref().map(|leaf| leaf.hash(index));
            assert_eq!(leaf, leaves().into_iter().find(|(at, _)| *at == index).map(|(_, hash)| hash), "a leaf that the table has not");
        }
    }
}

fn leaves() -> Vec<(u32, Hash)> {
    (0..40).map(|index| (index * 7, cityid_core::table::Leaf { salt: [1; 16], record: vec![index as u8] }.hash(index * 7))).collect()
}

fn table() -> SealedTable {
    SealedTable::build(10, leaves()).expect("ascending leaves")
}

/// `cut(1)`, then a CSV text in two pieces; what the builder takes makes a file that the reader takes.
pub(crate) fn rows(data: &[u8]) {
    let Some((cut, text)) = data.split_first() else { return };
    let range = Range::new(
        City::parse("130100").expect("a city"),
        Class::parse("010203").expect("a class"),
        Serial::new(7_000).expect("a serial"),
        1_000,
    );
    let spec = Spec { genesis: [3; 32], range: range.expect("a range"), org: None, seed: [5; 32], height: 9 };
    let mut builder = Builder::new(spec, None).expect("a builder");
    builder.set_category(Use::parse("60").expect("a use"), Model::NONE);
    let (first, second) = text.split_at(usize::from(*cut).min(text.len()));
    for (number, piece) in [first, second, b""].into_iter().enumerate() {
        if piece.is_empty() && number < 2 {
            continue;
        }
        if builder.add_rows(piece, &[number as u8; 32]).is_err() {
            assert!(builder.add_rows(b"serial\n", &[0; 32]).is_err(), "refused once, refused for good");
            return;
        }
    }
    builder.take_segment().expect("rows that were taken");
}

pub(crate) fn index_seeds() -> Vec<Vec<u8>> {
    let (index, _) = read_whole(&read("table-file.hex"), 4_096).expect("the golden table");
    let encoded = index.encode();
    vec![encoded[..encoded.len() - 32].to_vec(), encoded]
}

pub(crate) fn proof_seeds() -> Vec<Vec<u8>> {
    let leaf = |index: u32| Some(cityid_core::table::Leaf { salt: [1; 16], record: vec![index as u8 / 7] });
    [(0, leaf(0)), (14, leaf(14)), (15, None), (999, None)]
        .into_iter()
        .map(|(index, leaf): (u32, _)| {
            let mut out = Encoder::new();
            table().prove(index, leaf).expect("the table's own leaf").encode(&mut out);
            [&(index as u16).to_be_bytes()[..], &out.finish()].concat()
        })
        .collect()
}

pub(crate) fn rows_seeds() -> Vec<Vec<u8>> {
    [
        "\u{5}serial,name,status\n7001,lamp,active\n7002,\"a, b\",\n",
        "\u{9}code,name\nMA.156.130100/60.010203.0/000007003O,x\n",
        "\u{1}serial,use,model\n7004,60,1\n",
        "\u{1}serial\r\n7005\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
