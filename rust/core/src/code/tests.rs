#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::check::ALPHABET;
use super::*;

const ITEM: &str = "MA.156.130100.A7K2/60.010203.1/000012345B";

fn members(cities: &[&str]) -> Members {
    cities.iter().map(|city| City::parse(city).unwrap()).collect()
}

fn reason(text: &str, members: Option<&Members>) -> String {
    match Code::parse(text, members) {
        Err(Error::Code(message)) => message,
        other => panic!("{text:?}: expected a code error, got {other:?}"),
    }
}

fn native(text: &str) -> Code {
    let code = Code::parse(text, None).unwrap();
    assert_ne!(code.kind(), "foreign", "{text}");
    code
}

fn foreign(text: &str, members: Option<&Members>) {
    let code = Code::parse(text, members).unwrap();
    assert_eq!((code.kind(), code.text().as_str()), ("foreign", text));
}

#[test]
fn check_character_agrees_with_published_codes() {
    // The example of the GRid standard, also in the documentation of python-stdnum (stdnum.grid, stdnum.iso7064.mod_37_36).
    assert_eq!(check_character("A12425GABC1234002").unwrap(), 'M');
    assert_eq!(check_character("a12425gabc1234002").unwrap(), 'M');
    assert_ne!(check_character("A12425GABC1234003").unwrap(), 'M', "control");
    assert_eq!(check_character("MA.156.130100.A7K2/60.010203.1/000012345").unwrap(), 'B');
    assert_eq!(check_character("MA156130100A7K260010203").unwrap(), check_character("MA.156.130100.A7K2/60.010203").unwrap());
    assert!(check_character("MA-1").unwrap_err().to_string().contains("'-'"));
}

#[test]
fn every_step_of_the_sum_equals_the_definition() {
    for product in 1..=36u8 {
        for (value, &character) in (0..36u8).zip(ALPHABET) {
            let sum = match (product + value) % 36 {
                0 => 36,
                sum => sum,
            };
            assert_eq!(CheckSum(product).then(character).0, sum * 2 % 37, "{product} {value}");
            assert_eq!(CheckSum(product).then(character.to_ascii_lowercase()).0, sum * 2 % 37, "{product} {value}");
        }
        assert_eq!(CheckSum(product).then(b'.').0, product, "skipped");
    }
    assert_eq!(CheckSum::START.over(NATIVE_PREFIX.as_bytes()).0, CheckSum::AFTER_PREFIX.0);
}

#[test]
fn an_item_has_its_parts() {
    let code = native(ITEM);
    let Code::Item { city, org: Some(org), category, serial } = code.clone() else { panic!("{code:?}") };
    assert_eq!((city.as_str(), org.as_str(), category.to_string().as_str()), ("130100", "A7K2", "60.010203.1"));
    assert_eq!((serial.get(), serial.million(), serial.thousand()), (12_345, 0, 12));
    assert_eq!((code.check(), code.alias().as_deref()), (Some('B'), Some("130100010203000012345")));
    assert_eq!(code.did(), "did:cityid:MA.156.130100.A7K2:60.010203.1:000012345B");
    assert_eq!(code.path(), format!("/{ITEM}"));
    assert_eq!(Code::item(city, Some(org), category.use_, category.class, category.model, serial), code);
    assert_eq!(code.text(), ITEM);
}

#[test]
fn every_kind_of_code_is_read_and_written() {
    let without_org = "MA.156.130100/60.010203.0/000000000U";
    for (text, kind) in [
        ("MA.156.130100", "city"),
        ("MA.156.130100.A7K2", "org"),
        ("MA.156.130100.ABCDEFGH", "org"),
        ("MA.156.130100/60.010203.0", "category"),
        ("MA.156.130100.A7K2/60.010203.LAMP2024", "category"),
        (without_org, "item"),
        (ITEM, "item"),
    ] {
        let code = native(text);
        assert_eq!((code.kind(), code.text().as_str()), (kind, text));
        assert_eq!(code.alias().is_some(), kind == "item");
        for typed in [text.to_lowercase(), format!("{text}/"), code.did(), format!("https://city.example{}", code.path())] {
            assert_eq!(Code::parse(&typed, None), Ok(code.clone()), "{typed}");
        }
    }
    assert_eq!(native(without_org).category().map(|category| category.model), Some(Model::NONE));
}

#[test]
fn urls_carry_codes() {
    let code = native(ITEM);
    for url in [
        format!("HTTPS://CITY.EXAMPLE/{ITEM}"),
        format!("http://127.0.0.1:8001/{ITEM}/?proof=1#top"),
        format!("https://[::1]:8001/{}", ITEM.to_lowercase()),
        format!("https://city.example?code={ITEM}"),
        format!("https://city.example/scan/?lang=zh&code={ITEM}&x=1#code=none"),
        "https://city.example/scan?CODE=MA%2E156.130100.A7K2%2F60.010203.1%2f000012345B".into(),
        "https://city.example/MA%2E156.130100.A7K2%2F60.010203.1/000012345B".into(),
        "DID:cityid:MA.156.130100.A7K2:60.010203.1:000012345B?versionId=3#key-1".into(),
    ] {
        assert_eq!(Code::parse(&url, None), Ok(code.clone()), "{url}");
    }
    let foreign = Code::parse("https://city.example/scan?code=ma.1%2F%25%41/", None).unwrap();
    assert_eq!(foreign.text(), "ma.1/%A/", "decoded once, otherwise as typed");
}

#[test]
fn urls_without_one_code_are_refused() {
    for (url, why) in [
        (format!("https://city.example/{ITEM}?code=MA.156.110000"), "more than one code"),
        (format!("https://city.example/%4d%61%2E156.110000?code={ITEM}"), "more than one code"),
        (format!("https://city.example/?code={ITEM}&code={ITEM}"), "more than one code"),
        (format!("https:///{ITEM}"), "no host"),
        (format!("https://city.example/codes/{ITEM}"), "does not start with `MA.`"),
        ("https://city.example".into(), "does not start with `MA.`"),
        (format!("ftp://city.example/{ITEM}"), "does not start with `MA.`"),
        ("https://city.example/MA.1%0A".into(), "%0A"),
        ("https://city.example/MA.1%20x".into(), "%20"),
        ("https://city.example/MA.1%EF%BC%A1".into(), "%EF"),
        ("https://city.example/MA.1%zz".into(), "%zz"),
        ("https://city.example/MA.1%2".into(), "within a percent-escape"),
        (format!("https://city.example/MA.%41{}", "a".repeat(200)), "more than 200 bytes"),
        ("did:cityid:MA.156.130100/60.010203.0".into(), "no `/`"),
        ("did:other:MA.156.130100".into(), "does not start with `MA.`"),
    ] {
        let message = reason(&url, None);
        assert!(message.contains(why), "{url}: {message}");
    }
    assert!(Code::from_did(ITEM, None).unwrap_err().to_string().contains("did:cityid:"));
}

#[test]
fn what_is_not_native_is_foreign_and_kept_as_typed() {
    for text in [
        "MA.156.430121.1006/10.29000000.PG100001",
        "ma.156.430121.1006/10.29000000.pg100001/",
        "MA.",
        "Ma.156.13010",
        "MA.156.1301000",
        "MA.157.130100",
        "MA.156.130100//",
        "MA.156.130100.",
        "MA.156.130100.A7K",
        "MA.156.130100.A7K2A7K2A",
        "MA.156.130100.A7-2",
        "MA.156.130100/60.010203",
        "MA.156.130100/60.010203.",
        "MA.156.130100/60.010203.123456789",
        "MA.156.130100/6.010203.1",
        "MA.156.130100.A7K2/60.010203.1/00012345B",
        "MA.156.130100.A7K2/60.010203.1/000012345",
        "MA.156.130100.A7K2/60.010203.1/000012345-",
        "MA.156.130100.A7K2/60.010203.1/000012345BB",
        "MA.156.130100.A7K2/60.010203.1/000012345B/x",
    ] {
        foreign(text, None);
        foreign(text, Some(&members(&["130100", "430121"])));
    }
}

#[test]
fn the_member_list_decides() {
    let with = members(&["440300", "130100", "110000", "130100"]);
    let without = members(&["440300", "110000"]);
    assert_eq!((with.len(), with.iter().next()), (3, Some(City::parse("110000").unwrap())));
    for text in ["MA.156.130100", "MA.156.130100.A7K2", "MA.156.130100/60.010203.1", ITEM] {
        assert_eq!(Code::parse(text, Some(&with)), Code::parse(text, None));
        foreign(text, Some(&without));
        foreign(&text.to_lowercase(), Some(&without));
        foreign(&format!("{text}/"), Some(&Members::default()));
    }
    let wrong_check = ITEM.replace('B', "C");
    for known in [None, Some(&with)] {
        let message = reason(&wrong_check, known);
        assert!(message.contains("is C") && message.contains("give B"), "{message}");
    }
    foreign(&wrong_check, Some(&without));
}

#[test]
fn characters_outside_printable_ascii_are_named_and_never_folded() {
    for (text, named) in [
        ("MA.156.13０100", "'０' (U+FF10) at position 10"),
        ("ＭA.156.130100", "'Ｍ' (U+FF2D) at position 1 "),
        ("MА.156.130100", "(U+0410) at position 2 "),
        ("MA.156.130100 ", "' ' (U+0020) at position 14"),
        (" MA.156.130100", "' ' (U+0020) at position 1 "),
        ("MA.156.130100\n", "'\\n' (U+000A) at position 14"),
        ("MA.156.130100\u{200b}", "'\\u{200b}' (U+200B) at position 14"),
        ("MA.156.130100.\u{7f}", "(U+007F) at position 15"),
        ("https://city.example/MA.156.13０100", "(U+FF10) at position 31"),
        ("did:cityid:MA.156.13０100", "(U+FF10) at position 21"),
    ] {
        let message = reason(text, None);
        assert!(message.contains(named), "{text:?}: {message}");
    }
    let bytes = Code::parse_bytes(b"MA.156.\xff", None).unwrap_err().to_string();
    assert!(bytes.contains("byte 0xFF") && bytes.contains("position 8"), "{bytes}");
    assert!(reason("", None).contains("does not start with `MA.`"));
    assert!(reason("XA.156.130100", None).contains("does not start with `MA.`"));
}

#[test]
fn lengths_are_bounded() {
    let longest = format!("MA.{}", "x".repeat(MAX_FOREIGN_BYTES - 3));
    foreign(&longest, None);
    assert!(reason(&format!("{longest}x"), None).contains("more than 200 bytes"));
    let padding = "x".repeat(MAX_INPUT_BYTES);
    let url = format!("https://city.example/{ITEM}?x={padding}");
    assert!(reason(&url, None).contains("at most 2048"));
    assert_eq!(Code::parse(&url[..MAX_INPUT_BYTES], None), Ok(native(ITEM)), "control: one byte less of padding is read");
    assert_eq!(native("MA.156.130100.ABCDEFGH/60.010203.ABCDEFGH/000000000N").text().len(), MAX_NATIVE_BYTES);
}

#[test]
fn foreign_codes_survive_dids_and_paths() {
    for text in ["MA.1/a:b/", "MA.%2F?#[]", "MA.156.430121.1006/10.29000000.PG100001", "ma.//", "MA.{\"<^`|\\>}"] {
        let code = Code::parse(text, None).unwrap();
        assert_eq!(Code::from_did(&code.did(), None), Ok(code.clone()), "{}", code.did());
        assert_eq!(Code::parse(&format!("https://city.example{}", code.path()), None), Ok(code.clone()), "{}", code.path());
        assert!(!code.did().ends_with(':'));
    }
    assert_eq!(Foreign::parse("MA.1").unwrap().as_str(), "MA.1");
    assert!(Foreign::parse("NA.1").is_err());
}

#[test]
fn a_subject_is_a_code_or_an_alias() {
    let alias = Alias::parse("130100010203000012345").unwrap();
    assert_eq!((alias.city.as_str(), alias.class.as_str(), alias.serial.get()), ("130100", "010203", 12_345));
    assert_eq!(alias.to_string(), "130100010203000012345");
    for text in ["130100010203000012345", "https://city.example/scan?code=130100010203000012345"] {
        assert_eq!(Subject::parse(text, None), Ok(Subject::Alias(alias)));
    }
    assert_eq!(Subject::parse(ITEM, None).map(|subject| subject.to_string()), Ok(ITEM.to_string()));
    for (text, why) in [("13010001020300001234", "20 characters"), ("１30100010203000012345", "U+FF11"), ("", "`MA.`"), ("1a", "`MA.`")] {
        let message = Subject::parse(text, None).unwrap_err().to_string();
        assert!(message.contains(why), "{text}: {message}");
    }
    assert!(Alias::parse("130100 010203 000012345").is_err());
}

#[test]
fn a_named_alias_has_one_text() {
    let text = "alias:130100.A7K2/lamps:LD:0017/x";
    let named = NamedAlias::parse(text).unwrap();
    assert_eq!((named.city().as_str(), named.org().map(|org| org.to_string()).as_deref()), ("130100", Some("A7K2")));
    assert_eq!((named.namespace(), named.alias(), named.to_string().as_str()), ("130100.A7K2/lamps", "LD:0017/x", text));
    assert_eq!(NamedAlias::owner("130100/x").map(|code| code.text()), Ok("MA.156.130100".to_owned()));
    let urls = [
        "https://city.example/alias:130100.A7K2/lamps:LD:0017/x",
        "https://city.example/scan?code=alias%3A130100.A7K2/lamps%3ALD%3A0017%2Fx",
    ];
    for form in [text, "ALIAS:130100.A7K2/lamps:LD:0017/x"].into_iter().chain(urls) {
        assert_eq!(Subject::parse(form, None), Ok(Subject::Named(named.clone())), "{form}");
    }
    // Nothing is folded: other letters, another alias.
    assert_ne!(NamedAlias::parse("alias:130100.A7K2/lamps:ld:0017/x").unwrap(), named);
    for bad in [
        "alias:",
        "alias:130100",
        "alias:130100:",
        "alias::x",
        "alias:130100.a7k2:x",
        "alias:130100.A7K:x",
        "alias:13010:x",
        "alias:130100/:x",
        "alias:130100/A:x",
        "alias:130100/a/b:x",
        "alias:MA.156.130100:x",
        "alias:130100:a b",
        "alias:130100:ä",
        "alias:130100?:x",
        &format!("alias:130100:{}", "x".repeat(65)),
        &format!("alias:130100/{}:x", "x".repeat(33)),
    ] {
        assert!(matches!(Subject::parse(bad, None), Err(Error::Code(_))), "{bad}");
    }
    assert!(Subject::parse(&format!("alias:130100.A7K2A7K2/{}:{}", "x".repeat(32), "~".repeat(64)), None).is_ok());
    assert!(NamedAlias::parse("130100:x").is_err());
    // Two readers must not take one URL for two subjects.
    let two = format!("https://city.example/alias:130100:x?code={ITEM}");
    assert!(Subject::parse(&two, None).unwrap_err().to_string().contains("more than one code"));
}

#[test]
fn fields_check_themselves() {
    assert!(City::parse("13010").is_err() && City::parse("1301000").is_err() && City::parse("13010x").is_err());
    assert!(Org::parse("A7K").is_err() && Org::parse("A7K2A7K2A").is_err() && Org::parse("A7 2").is_err());
    assert_eq!(Org::parse("a7k2").unwrap(), Org::parse("A7K2").unwrap());
    assert_eq!(Model::parse("0").unwrap(), Model::NONE);
    assert!(Model::parse("").is_err() && Use::parse("6").is_err() && Class::parse("٠٠٠").is_err());
    assert!(Serial::new(1_000_000_000).is_err() && Serial::parse("12345").is_err());
    let serial = Serial::parse("987654321").unwrap();
    assert_eq!((serial.million(), serial.thousand(), serial.to_string().as_str()), (987, 987_654, "987654321"));
    assert!(Org::parse("AAAA").unwrap() < Org::parse("AAAA0").unwrap() && Org::parse("AAAA9").unwrap() < Org::parse("AAAB").unwrap());
    let message = City::parse(&"9".repeat(5000)).unwrap_err().to_string();
    assert!(message.len() < 200 && message.contains("6 digits"), "{message}");
}

#[test]
fn many_rows_fail_alone() {
    let rows: [&[u8]; 4] = [ITEM.as_bytes(), b"MA.156.\xff", b"", b"MA.156.430121.1006/10.29000000.PG100001"];
    let text = rows.concat();
    let mut offsets = vec![0u32];
    for row in rows {
        offsets.push(offsets[offsets.len() - 1] + row.len() as u32);
    }
    let codes = parse_many(&text, &offsets, None);
    assert_eq!(codes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
    assert_eq!(codes[0], Ok(native(ITEM)));
    assert!(parse_many(&text, &[], None).is_empty() && parse_many(&text, &[0], None).is_empty());
    let bad = parse_many(&text, &[5, 0, ITEM.len() as u32, u32::MAX], None);
    assert!(matches!(bad[0], Err(Error::Malformed(_))) && bad[1].is_ok() && matches!(bad[2], Err(Error::Malformed(_))));
}
