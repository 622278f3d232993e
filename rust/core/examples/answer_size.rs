//! How long the state proof of an answer about an item is, with kinds in the paths (P9) and with plain hashes of the map keys.
//!
//! ```text
//! cargo run --release -p cityid-core --example answer_size -- [items]
//! ```
use cityid_core::code::{City, Class, Org, Serial};
use cityid_core::error::Error;
use cityid_core::hash::{sha256, Hash};
use cityid_core::index::StateMap;
use cityid_core::map_key::{path_of, MapKey};
use std::sync::Arc;

/// Answers that are averaged over.
const SAMPLES: u32 = 1_000;

fn main() -> Result<(), Error> {
    let items: u32 = std::env::args().nth(1).and_then(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let (class, org) = (Class::parse("010203")?, Org::parse("A7K2")?);
    let cities: Vec<City> = (0..20).map(|number| City::parse(&format!("{}", 110_000 + number * 100))).collect::<Result<_, _>>()?;
    // 20 cities with 10 organisations each; the items stand in thousands of all cities alike.
    let mut keys = vec![MapKey::Network.encode()];
    for city in &cities {
        keys.push(MapKey::City(*city).encode());
        for number in 0..10 {
            keys.push(MapKey::Organisation(*city, Org::parse(&format!("ORG{number}"))?).encode());
        }
        keys.push(MapKey::Organisation(*city, org).encode());
    }
    let place = |number: u32| Ok::<_, Error>((cities[number as usize % cities.len()], Serial::new(number / cities.len() as u32)?));
    for number in 0..items {
        let (city, serial) = place(number)?;
        if serial.get().is_multiple_of(1_000) {
            keys.push(MapKey::Thousand(city, class, serial).encode());
        }
        keys.push(MapKey::Item(city, class, serial).encode());
    }
    let record: Arc<[u8]> = vec![0; 8].into();
    for (name, path) in [("kinds in the paths", path_of as fn(&[u8]) -> Hash), ("plain hashes", sha256)] {
        let state = StateMap::new(1);
        state.commit(state.candidate(keys.iter().map(|key| (path(key), Some(record.clone()))).collect())?)?;
        let snapshot = state.current();
        let mut bytes = 0;
        for sample in 0..SAMPLES {
            let (city, serial) = place(sample * (items / SAMPLES).max(1))?;
            let chain = [
                MapKey::Network,
                MapKey::City(city),
                MapKey::Organisation(city, org),
                MapKey::Thousand(city, class, serial),
                MapKey::Item(city, class, serial),
            ];
            let mut paths = chain.map(|key| path(&key.encode()));
            paths.sort_unstable();
            let proof = snapshot.prove(&paths)?;
            bytes += proof.ops.len() + proof.hashes.len();
        }
        println!("{name}: {} bytes of state proof an answer, at {} records", bytes / SAMPLES as usize, snapshot.len());
    }
    Ok(())
}
