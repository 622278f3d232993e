//! The check character: ISO/IEC 7064 MOD 37,36 (hybrid system) over the letters and digits of a code.
use crate::error::Error;

/// The ISO/IEC 7064 MOD 37,36 check character over the letters and digits of `text`, in either case; dots and slashes are skipped.
/// Fails with [`Error::Code`] on any other character.
pub fn check_character(text: &str) -> Result<char, Error> {
    match text.char_indices().find(|(_, c)| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '/')) {
        Some((index, found)) => Err(Error::Code(format!(
            "character {found:?} (U+{:04X}) at byte {index} has no value in MOD 37,36; a check character covers A-Z and 0-9 only",
            u32::from(found)
        ))),
        None => Ok(char::from(CheckSum::START.over(text.as_bytes()).character())),
    }
}

/// The running product of ISO/IEC 7064 MOD 37,36 (hybrid system): 1 to 36.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckSum(pub(super) u8);

impl CheckSum {
    pub(super) const START: CheckSum = CheckSum(36);
    /// The product over `MA156`, with which every native code begins.
    pub(super) const AFTER_PREFIX: CheckSum = CheckSum::START.then(b'M').then(b'A').then(b'1').then(b'5').then(b'6');

    /// Takes in the next character. Each step waits for the one before it, so a step is one look-up, without division or branch.
    pub(super) const fn then(self, character: u8) -> CheckSum {
        CheckSum(PRODUCTS[self.0 as usize + VALUES[character as usize] as usize])
    }

    /// Takes in every letter and digit of `text`, in either case, and skips all else.
    pub(super) fn over(self, text: &[u8]) -> CheckSum {
        text.iter().fold(self, |sum, &character| sum.then(character))
    }

    /// The character that brings the final sum to 1 modulo 36.
    pub(super) fn character(self) -> u8 {
        ALPHABET[usize::from(37 - self.0) % 36]
    }
}

/// The characters of MOD 37,36 by value.
pub(super) const ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// In place of a value: this character is skipped. It lies above every sum of a product (to 36) and a value (to 35).
const SKIPPED: u8 = 72;
/// The value of each byte in MOD 37,36, letters in either case.
const VALUES: [u8; 256] = {
    let mut values = [SKIPPED; 256];
    let mut value = 0;
    while value < 36 {
        values[ALPHABET[value] as usize] = value as u8;
        values[ALPHABET[value].to_ascii_lowercase() as usize] = value as u8;
        value += 1;
    }
    values
};
/// The next product by the sum of product and value: the sum modulo 36, with 36 for 0, then twice that modulo 37.
/// From [`SKIPPED`] on, the product as it was.
const PRODUCTS: [u8; 128] = {
    let mut products = [0; 128];
    let mut product = 1;
    while product <= 36 {
        products[product] = (2 * product % 37) as u8;
        products[product + 36] = products[product];
        products[product + SKIPPED as usize] = product as u8;
        product += 1;
    }
    products
};
