//! Unified social credit codes of organisations in China (GB 32100-2015): grammar and check character.
//!
//! 18 characters: registration department, kind of organisation, six digits of the registering division (GB/T 2260), nine characters
//! of the organisation, check character. The alphabet has 31 characters: digits and upper-case letters without I, O, S, V and Z.
//!
//! A code that passes is well-formed. Whether it was ever given to an organisation, only the register knows.
use crate::error::Error;

/// Checks one code: length, alphabet, the six division digits and the check character.
/// Upper case only, without spaces: commitments are made over these bytes, so there is one way to write a code.
/// Fails with [`Error::Code`].
pub fn check(text: &str) -> Result<(), Error> {
    if text.len() > LENGTH * LONGEST_UTF8_CHARACTER || text.chars().count() != LENGTH {
        return Err(Error::Code(format!(
            "this is not a unified social credit code: it has {LENGTH} characters and this text has another number; check that all of it was typed"
        )));
    }
    let mut sum = 0;
    for (index, (character, weight)) in text.chars().zip(WEIGHTS).enumerate() {
        let value = value(character, index)?;
        if DIVISION.contains(&index) && !character.is_ascii_digit() {
            return Err(Error::Code(format!(
                "character {character:?} at position {} of the unified social credit code must be a digit: positions 3 to 8 are the \
                 registering division; compare it with the licence",
                index + 1
            )));
        }
        sum += value * weight;
    }
    // The check character has weight 1, so that a right code sums to 0 modulo 31.
    if sum % ALPHABET.len() != 0 {
        return Err(Error::Code(
            "the check character of the unified social credit code does not match the 17 before it: at least one of the 18 is wrong; \
             compare it with the licence"
                .into(),
        ));
    }
    Ok(())
}

fn value(character: char, index: usize) -> Result<usize, Error> {
    ALPHABET.iter().position(|&known| char::from(known) == character).ok_or_else(|| {
        Error::Code(format!(
            "character {character:?} (U+{:04X}) at position {} is not used in unified social credit codes; they have digits and upper-case \
             letters without I, O, S, V and Z",
            u32::from(character),
            index + 1
        ))
    })
}

const LENGTH: usize = 18;
const LONGEST_UTF8_CHARACTER: usize = 4;
/// Positions of the registering division, counted from 0.
const DIVISION: std::ops::Range<usize> = 2..8;
/// The characters by value.
const ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
/// Powers of 3 modulo 31 for the first 17 characters, 1 for the check character.
const WEIGHTS: [usize; LENGTH] = [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28, 1];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    /// The worked example of GB 32100-2015.
    const EXAMPLE: &str = "91350100M000100Y43";

    fn reason(text: &str) -> String {
        match check(text) {
            Err(Error::Code(message)) => message,
            other => panic!("{text}: expected a code error, got {other:?}"),
        }
    }

    #[test]
    fn accepts_the_example_and_knows_its_published_misprint() {
        assert_eq!(check(EXAMPLE), Ok(()));
        assert!(reason("91350100M000100Y4Z").contains("'Z'"), "Z is not in the alphabet");
    }

    #[test]
    fn refuses_codes_that_circulate_with_wrong_check_characters() {
        for (wrong, right) in [("91310115MA1H8R7C6D", "91310115MA1H8R7C67"), ("91310115MA1G4L1WXK", "91310115MA1G4L1WX7")] {
            assert!(reason(wrong).contains("does not match"), "{wrong}");
            assert_eq!(check(right), Ok(()), "the same code with the computed character");
        }
    }

    #[test]
    fn every_substitution_is_found() {
        for (index, original) in EXAMPLE.char_indices() {
            for replacement in ALPHABET.iter().map(|&byte| char::from(byte)).filter(|&c| c != original) {
                let mut changed = EXAMPLE.to_string();
                changed.replace_range(index..=index, &replacement.to_string());
                assert!(check(&changed).is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn names_what_is_wrong() {
        assert!(reason("").contains("18 characters"));
        assert!(reason(&EXAMPLE.repeat(1000)).contains("18 characters"));
        assert!(reason("91350100m000100Y43").contains("'m' (U+006D) at position 9"));
        assert!(reason("９1350100M000100Y43").contains("(U+FF19) at position 1"));
        assert!(reason("9135010AM000100Y43").contains("position 8 of the unified social credit code must be a digit"));
    }

    /// Every row of `uscc/vectors.tsv` in the folder that CITYID_VECTORS names: code, verdict, source.
    #[test]
    fn agrees_with_the_published_vectors() {
        let Ok(folder) = std::env::var("CITYID_VECTORS") else {
            eprintln!("SKIPPED: set CITYID_VECTORS to the folder of published vectors to check uscc/vectors.tsv");
            return;
        };
        let table = std::fs::read_to_string(std::path::Path::new(&folder).join("uscc/vectors.tsv")).unwrap();
        let mut rows = 0;
        for row in table.lines().skip(1).filter(|row| !row.is_empty()) {
            let (code, verdict) = row.split_once('\t').unwrap();
            // Rows without a verdict of their own are the published codes with a wrong check character.
            assert_eq!(check(code).is_ok(), verdict.starts_with("valid"), "{row}");
            rows += 1;
        }
        assert!(rows >= 6, "the table lost rows: {rows}");
    }
}
