//! Trust: what a relying party must know beforehand, from a file that it got on a way it trusts.
//!
//! It names the network by its genesis hash and the cities whose certificates count, with the height and time at which that was
//! so. A genesis file is a trust file of height 0. Two people compare theirs by [`Trust::words`].
//!
//! Rules:
//! - A trust moves forward only, along headers that are certified by its own validator set ([`Trust::advance`]).
//! - Its set is the one that decides the height after its own. So it may skip headers that change nothing, but no header that names
//!   another next set: there the next set comes with the header, and its hash must be the one that the old set signed (P75).
//!
//! It knows no clock: whether a trust is stale is said by the verifier, which is given the time.
use crate::answer::CertifiedHeader;
use crate::block::{Header, Validator, ValidatorSet, MAX_VALIDATORS};
use crate::code::City;
use crate::error::Error;
use crate::genesis::{Genesis, MAX_FILE};
use crate::hash::{hex, tagged, Hash, Suite, Tag};
use crate::json;
use crate::mutants::{planted, Mutant};
use crate::wire::{Decoder, Encoder, MAX_TEXT};
use serde_json::{json, Value};

/// The longest trust in CBOR: a full validator set needs 5 KiB.
pub const MAX_TRUST: usize = 16 * 1024;

/// An anchor of trust in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Hash of the genesis: which network.
    pub genesis: Hash,
    /// The cities whose certificates count: those that decide the height after `height`.
    pub validators: ValidatorSet,
    /// The height up to which trust has followed the network.
    pub height: u64,
    /// Time of that height, milliseconds since 1970 (UTC).
    pub time_ms: u64,
    /// Whether it is a test network.
    pub test: bool,
    /// Name of the network.
    pub name: String,
}

impl Trust {
    /// The trust that a genesis file gives: all founding cities, height 0.
    ///
    /// Errors: [`Error::Malformed`] when its cities do not make a validator set.
    pub fn from_genesis(genesis: &Genesis) -> Result<Trust, Error> {
        Ok(Trust {
            genesis: genesis.hash(),
            validators: genesis.validators()?,
            height: 0,
            time_ms: genesis.time_ms,
            test: genesis.test,
            name: genesis.name.clone(),
        })
    }

    /// Reads a trust file, or a genesis file.
    pub fn from_json(text: &str) -> Result<Trust, Error> {
        let mut object = json::parse_object(text, MAX_FILE, "a trust file")?;
        match object.text("cityid")?.as_str() {
            "trust" => {}
            "genesis" => return Trust::from_genesis(&Genesis::from_json(text)?),
            other => return Err(Error::malformed(format!("a file of kind {other:?}; pass a trust file or a genesis file"))),
        }
        let name = object.text("name")?;
        Suite::parse(object.uint("suite")?)?;
        let test = object.flag("test")?;
        let genesis = json::fixed_hex(&object.text("genesis")?)?;
        let height = object.uint("height")?;
        let time_ms = object.uint("time_ms")?;
        let mut members = Vec::new();
        for mut member in object.objects("validators", MAX_VALIDATORS)? {
            members.push(Validator { city: City::parse(&member.text("city")?)?, key: json::fixed_hex(&member.text("key")?)? });
            member.end()?;
        }
        object.end()?;
        let trust = Trust { genesis, validators: ValidatorSet::new(members)?, height, time_ms, test, name };
        trust.check_name()?;
        Ok(trust)
    }

    /// The file, with fields in a fixed order.
    pub fn to_json(&self) -> String {
        let members: Vec<Value> =
            self.validators.members().iter().map(|member| json!({"city": member.city.as_str(), "key": hex(&member.key)})).collect();
        json::pretty(&json!({
            "cityid": "trust", "name": self.name, "suite": Suite::Ed25519Sha256 as u8, "test": self.test, "genesis": hex(&self.genesis),
            "height": self.height.to_string(), "time_ms": self.time_ms.to_string(), "validators": members,
        }))
    }

    /// The canonical bytes: `[1, name, suite, test, genesis hash, height, time_ms, validators]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(128 + 48 * self.validators.len());
        out.array(8).uint(1).text(&self.name).uint(Suite::Ed25519Sha256 as u64).uint(u64::from(self.test));
        out.bytes(&self.genesis).uint(self.height).uint(self.time_ms).raw(&self.validators.encode());
        out.finish()
    }

    /// Reads the canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Trust, Error> {
        if bytes.len() > MAX_TRUST {
            return Err(Error::malformed(format!("a trust of {} bytes, more than the limit of {MAX_TRUST}", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(8)?;
        let version = decoder.uint()?;
        if version != 1 {
            return Err(Error::malformed(format!("a trust of version {version}; this software reads version 1")));
        }
        let name = decoder.text(MAX_TEXT)?.to_owned();
        Suite::parse(decoder.uint()?)?;
        let test = decoder.uint_to(1)? == 1;
        let genesis = decoder.hash()?;
        let height = decoder.uint()?;
        let time_ms = decoder.uint()?;
        let validators = ValidatorSet::decode_next(&mut decoder)?;
        decoder.end()?;
        Ok(Trust { genesis, validators, height, time_ms, test, name })
    }

    /// Six pronounceable words for the first 12 bytes of the tagged hash (`trust`) of the canonical bytes.
    ///
    /// Each word is a proquint of 16 bits (D. S. Wilkerson, "A Proposal for Proquints", arXiv:0901.4016): consonant, vowel,
    /// consonant, vowel, consonant. 96 bits are out of reach for somebody who wants another trust with the same words.
    pub fn words(&self) -> String {
        let hash = tagged(Tag::Trust, Suite::Ed25519Sha256, &[&self.encode()]);
        let words: Vec<String> = hash[..12].chunks_exact(2).map(|pair| proquint(u16::from_be_bytes([pair[0], pair[1]]))).collect();
        words.join(" ")
    }

    /// The trust at a later header that this trust's validators certify (P75). `next` is the set that decides the height after the
    /// header's; it is needed only where the header names another one than trust has.
    ///
    /// Errors: [`Error::Malformed`] when the header does not parse; [`Error::Certificate`] for everything else: another network,
    /// a height or time that does not rise, a header of another validator set, a next set that is missing or not the named one, too
    /// few signatures.
    pub fn advance(&self, block: &CertifiedHeader, next: Option<&ValidatorSet>) -> Result<Trust, Error> {
        let header = Header::decode(&block.header)?;
        let refuse = |why: String| Err(Error::Certificate(format!("trust stays at height {}: {why}", self.height)));
        if header.genesis != self.genesis {
            return refuse(format!("the header is of the network with genesis {}; ask a gateway of this network", hex(&header.genesis)));
        }
        if header.height <= self.height || header.time_ms < self.time_ms {
            return refuse(format!("the header of height {} is not later; trust never goes back", header.height));
        }
        let set = self.validators.hash();
        if header.validators != set {
            return refuse(format!(
                "the header of height {} is under another validator set; first advance over every header between that names another next set",
                header.height
            ));
        }
        // P75: the hash in the header is what the old set signed for.
        let validators = match next {
            Some(_) if planted(Mutant::RetiredSetAccepted) => self.validators.clone(),
            Some(next) if next.hash() == header.next_validators => next.clone(),
            None if header.next_validators == set => self.validators.clone(),
            Some(_) => return refuse(format!("the set that came with the header of height {} is not the one it names", header.height)),
            None => {
                return refuse(format!(
                    "the header of height {} names another validator set from the next height on; give that set with it",
                    header.height
                ))
            }
        };
        block.verify(&header, &self.validators)?;
        Ok(Trust { validators, height: header.height, time_ms: header.time_ms, ..self.clone() })
    }

    fn check_name(&self) -> Result<(), Error> {
        if self.name.len() > MAX_TEXT {
            return Err(Error::malformed(format!("a network name of {} bytes; it takes at most {MAX_TEXT}", self.name.len())));
        }
        Ok(())
    }
}

/// 16 bits as consonant, vowel, consonant, vowel, consonant: four, two, four, two and four bits.
fn proquint(bits: u16) -> String {
    const CONSONANTS: [char; 16] = ['b', 'd', 'f', 'g', 'h', 'j', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'z'];
    const VOWELS: [char; 4] = ['a', 'i', 'o', 'u'];
    let consonant = |shift: u16| CONSONANTS[usize::from(bits >> shift & 0xf)];
    let vowel = |shift: u16| VOWELS[usize::from(bits >> shift & 0x3)];
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::proquint;

    #[test]
    fn proquints_are_those_of_the_article() {
        // The article's examples are IPv4 addresses: 127.0.0.1, 63.84.220.193 and 147.67.119.2.
        for (bits, word) in
            [(0x7f00, "lusab"), (0x0001, "babad"), (0x3f54, "gutih"), (0xdcc1, "tugad"), (0x9343, "natag"), (0x7702, "lisaf")]
        {
            assert_eq!(proquint(bits), word);
        }
    }
}
