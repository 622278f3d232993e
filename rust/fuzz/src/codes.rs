//! Codes in every form that somebody may type, print or link to.
use crate::text;
use cityid_core::code::{check_character, parse_many, Alias, City, Code, Members, NamedAlias, Subject};
use cityid_core::listing::{cursor, parse_cursor, Prefix};
use cityid_core::uscc;

/// Whatever names the same thing is read as the same code: its text, its DID, its URL.
pub(crate) fn code(data: &[u8]) {
    let members: Members = ["130100", "310000"].iter().map(|city| City::parse(city).expect("a city")).collect();
    for members in [None, Some(&members)] {
        let single = Code::parse_bytes(data, members);
        let many = parse_many(data, &[0, data.len() as u32], members);
        assert_eq!(many, std::slice::from_ref(&single), "one by one and many at once");
        if let Ok(code) = single {
            let text = code.text();
            assert_eq!(Code::parse(&text, members).as_ref(), Ok(&code));
            assert!(Code::parse(&text.to_ascii_lowercase(), members).is_ok(), "case is folded");
            assert_eq!(Code::from_did(&code.did(), members).as_ref(), Ok(&code), "{text}");
            assert_eq!(Code::parse(&format!("https://id.example{}", code.path()), members).as_ref(), Ok(&code), "{text}");
            if !matches!(code, Code::Foreign(_)) {
                assert!(text.is_ascii() && text == text.to_ascii_uppercase());
            }
        }
    }
    let Some(text) = text(data) else { return };
    if let Ok(subject) = Subject::parse(text, None) {
        assert_eq!(Subject::parse(&subject.to_string(), None).as_ref(), Ok(&subject));
    }
    if let Ok(alias) = Alias::parse(text) {
        assert_eq!(alias.to_string(), text);
    }
    if let Ok(named) = NamedAlias::parse(text) {
        assert_eq!(NamedAlias::parse(&named.to_string()).as_ref(), Ok(&named));
    }
    if let Ok(prefix) = Prefix::parse(text) {
        prefix.contains(text);
    }
    // Anything in hexadecimal says where to begin, also what is no key.
    if let Ok(key) = parse_cursor(text) {
        _ = parse_cursor(&cursor(&key));
    }
    _ = uscc::check(text);
    _ = check_character(text);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let seeds: &[&str] = &[
        "MA.156.130100",
        "ma.156.130100.a7k2/",
        "MA.156.130100.A7K2/60.010203.1",
        "MA.156.130100.A7K2/60.010203.1/000012345B",
        "MA.156.130100/60.010203.0/000000001",
        "MA.156.999999.X",
        "MA.999.some thing",
        "MA.156.130100.A7K2/60.010203.1/000012345C",
        "130100010203000012345",
        "alias:130100.A7K2/lamps:LD-0017",
        "did:cityid:MA.156.130100.A7K2:60.010203.1:000012345B",
        "https://id.example/MA.156.130100.A7K2/60.010203.1/000012345B",
        "https://id.example/?code=MA.156.130100%2FA&x=1#y",
        "http://id.example/%4DA.156.130100",
        "MA.156.130100.",
        "91130100MA07XXXXX1",
        "08313330313030",
    ];
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
