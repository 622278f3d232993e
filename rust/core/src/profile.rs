//! What people write into records: names, attribute names, services (P3, P22, P24 to P26).
//!
//! These texts are shown on screens and printed beside codes, so they must show what they hold: nothing that is invisible, that
//! reorders what stands around it, or that a browser would run. Whether a name is true, a text cannot tell.
use crate::wire::MAX_TEXT;

/// Why a name cannot stand in a record; none if it can: 1 to 255 bytes that show themselves, without white space at its ends.
pub fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > MAX_TEXT {
        return Some("it has 1 to 255 bytes of UTF-8");
    }
    if name.trim() != name {
        return Some("it neither starts nor ends with white space");
    }
    if name.chars().any(is_hidden) {
        return Some("it has no control characters, line separators, or marks that change the direction of the text around it");
    }
    None
}

/// Why an attribute of a commitment cannot have this name; none if it can.
pub fn attribute_fault(name: &str) -> Option<&'static str> {
    name_fault(name)
}

/// Why a service cannot stand in a record; none if it can: a type of printable ASCII, and an absolute URI (RFC 3986).
pub fn service_fault(kind: &str, uri: &str) -> Option<&'static str> {
    if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("its type is printable ASCII without spaces");
    }
    let Some((scheme, rest)) = uri.split_once(':') else { return Some("its URI names a scheme, as https:// does") };
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(in_scheme) || rest.is_empty() {
        return Some("its URI starts with a scheme of RFC 3986 and goes on after the colon");
    }
    if !rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || URI_MARKS.contains(&byte)) {
        return Some("its URI holds only characters of RFC 3986; escape the others with %");
    }
    if SCRIPTS.iter().any(|script| scheme.eq_ignore_ascii_case(script)) {
        return Some("its URI is one that a browser would run or show as a page of this site");
    }
    None
}

/// Characters that cannot be seen, or that change how others are seen: controls (Cc), line and paragraph separators, and the
/// marks, embeddings, overrides and isolates of the bidirectional algorithm (Unicode Standard Annex 9).
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Reserved and unreserved marks and the percent sign (RFC 3986 section 2).
const URI_MARKS: &[u8] = b":/?#[]@!$&'()*+,;=-._~%";
const SCRIPTS: [&str; 3] = ["javascript", "vbscript", "data"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_what_they_hold() {
        for good in ["路灯管理处", "Lighting office", "Ünïcode – № 7", "x", &"x".repeat(255)] {
            assert_eq!(name_fault(good), None, "{good:?}");
        }
        for bad in
            ["", " x", "x\u{3000}", "a\nb", "a\u{0}b", "a\u{7f}", "a\u{85}b", "a\u{202e}b", "a\u{2066}b", "a\u{2028}b", &"x".repeat(256)]
        {
            assert!(name_fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn services_are_absolute_uris_that_nothing_runs() {
        for good in ["https://city.example/lamps/7?x=%20#top", "mqtt://broker:1883", "urn:uuid:1", "did:cityid:MA.156.130100", "data2:x"] {
            assert_eq!(service_fault("linkset", good), None, "{good:?}");
        }
        let bad = [
            "",
            ":",
            "https:",
            "//host/x",
            "1a:b",
            "ht tp:x",
            "https://a b",
            "https://a\"><script>",
            "https://é",
            "javascript:alert(1)",
            "DATA:text/html,x",
        ];
        for uri in bad {
            assert!(service_fault("linkset", uri).is_some(), "{uri:?}");
        }
        assert!(service_fault("", "https://x").is_some() && service_fault("a b", "https://x").is_some());
    }
}
