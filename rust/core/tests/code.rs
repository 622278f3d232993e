//! Properties of codes: round trips, detection of errors, and no panic on any input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::code::{check_character, parse_many, City, Class, Code, Members, Model, Org, Serial, Subject, Use};
use cityid_core::error::Error;
use proptest::prelude::*;

fn any_native() -> impl Strategy<Value = Code> {
    let category = ("[0-9]{2}", "[0-9]{6}", "[A-Z0-9]{1,8}");
    ("[0-9]{6}", proptest::option::of("[A-Z0-9]{4,8}"), category, 0..=999_999_999u32, 0..4u8).prop_map(
        |(city, org, category, serial, depth)| {
            let city = City::parse(&city).unwrap();
            let org = org.map(|org| Org::parse(&org).unwrap());
            let (use_, class, model) = category;
            let item = Code::item(
                city,
                org,
                Use::parse(&use_).unwrap(),
                Class::parse(&class).unwrap(),
                Model::parse(&model).unwrap(),
                Serial::new(serial).unwrap(),
            );
            match (depth, org, item.category()) {
                (0, _, _) => Code::City { city },
                (1, Some(org), _) => Code::Org { city, org },
                (2, org, Some(category)) => Code::Category { city, org, category },
                _ => item,
            }
        },
    )
}

fn any_item() -> impl Strategy<Value = Code> {
    any_native().prop_filter("items only", |code| code.kind() == "item")
}

/// Strings near the grammar, so that all branches of the parser are reached.
fn nearly_a_code() -> impl Strategy<Value = String> {
    prop_oneof![
        "(https?://[a-z:]{0,5}[/?#]?)?([cC]ode=|did:cityid:)?[mM][aA]\\.156\\.[0-9]{5,7}([./:%][0-9A-Za-z%]{0,9}){0,8}/?",
        "MA\\.[!-~]{0,60}",
        "[ -~]{0,80}",
        "\\PC{0,60}",
        any::<String>(),
    ]
}

/// MOD 37,36 as the standard words it, with divisions, to compare with the crate's.
fn check_by_definition(text: &str) -> char {
    let value = |c: char| c.to_digit(36).unwrap();
    let product = text.chars().filter(char::is_ascii_alphanumeric).fold(36, |product, c| match (product + value(c)) % 36 {
        0 => 36 * 2 % 37,
        sum => sum * 2 % 37,
    });
    let check = (0..36).find(|check| (product + check) % 36 == 1).unwrap();
    char::from_digit(check, 36).unwrap().to_ascii_uppercase()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_native_code_survives_every_form(code in any_native()) {
        let text = code.text();
        prop_assert_eq!(Code::parse(&text, None), Ok(code.clone()));
        prop_assert_eq!(Code::parse(&text.to_lowercase(), None), Ok(code.clone()));
        prop_assert_eq!(Code::parse(&format!("{text}/"), None), Ok(code.clone()));
        prop_assert_eq!(Code::from_did(&code.did(), None), Ok(code.clone()));
        prop_assert_eq!(Code::parse(&format!("https://city.example:8001{}?x=1#y", code.path()), None), Ok(code.clone()));
        let escaped = text.replace('/', "%2F").replace('.', "%2e");
        prop_assert_eq!(Code::parse(&format!("http://h/?code={escaped}"), None), Ok(code.clone()));
        let only_member: Members = code.city().into_iter().collect();
        prop_assert_eq!(Code::parse(&text, Some(&only_member)), Ok(code.clone()));
        let outside = Code::parse(&text.to_lowercase(), Some(&Members::default())).unwrap();
        prop_assert_eq!((outside.kind(), outside.text()), ("foreign", text.to_lowercase()));
    }

    #[test]
    fn the_check_character_is_the_standard_one(code in any_item()) {
        let text = code.text();
        let (before, check) = text.split_at(text.len() - 1);
        prop_assert_eq!(check.chars().next(), Some(check_by_definition(before)));
        prop_assert_eq!(check_character(before).ok(), code.check());
    }

    #[test]
    fn an_alias_names_city_class_and_serial(code in any_item()) {
        let Subject::Alias(alias) = Subject::parse(&code.alias().unwrap(), None).unwrap() else { panic!("an alias is not a code") };
        prop_assert_eq!(Some(alias.city), code.city());
        prop_assert_eq!(Some(alias.class), code.category().map(|category| category.class));
        prop_assert_eq!(Some(alias.serial), code.serial());
    }

    /// A letter or digit in place of another never gives another item: the check fails, or the string stops being native.
    #[test]
    fn no_substitution_goes_unnoticed(code in any_item(), position in any::<prop::sample::Index>(), replacement in "[A-Z0-9]") {
        let text = code.text();
        let places: Vec<usize> = text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).map(|(index, _)| index).collect();
        let place = *position.get(&places);
        let mut changed = text.clone();
        changed.replace_range(place..=place, &replacement);
        match Code::parse(&changed, None) {
            _ if changed == text => {}
            Err(Error::Code(message)) => prop_assert!(place < 2 || message.contains("check character"), "{}: {}", changed, message),
            Ok(Code::Foreign(_)) => {}
            other => prop_assert!(false, "{changed} was read as {other:?}"),
        }
    }

    #[test]
    fn what_parses_is_its_own_canonical_form(text in nearly_a_code(), member in "[0-9]{6}") {
        let member: Members = City::parse(&member).into_iter().collect();
        for members in [None, Some(&member), Some(&Members::default())] {
            if let Ok(code) = Code::parse(&text, members) {
                prop_assert_eq!(Code::parse(&code.text(), members), Ok(code.clone()));
                prop_assert_eq!(Code::from_did(&code.did(), members), Ok(code.clone()));
                prop_assert_eq!(Code::parse(&format!("https://h{}", code.path()), members), Ok(code));
            }
            let _ = Subject::parse(&text, members);
        }
    }

    #[test]
    fn any_bytes_and_offsets_are_answered_row_by_row(text in prop::collection::vec(any::<u8>(), 0..200), offsets in prop::collection::vec(0..220u32, 0..20)) {
        let rows = parse_many(&text, &offsets, None);
        prop_assert_eq!(rows.len(), offsets.len().saturating_sub(1));
    }
}

#[test]
fn many_rows_equal_single_rows() {
    let mut text = Vec::new();
    let mut offsets = vec![0u32];
    // More rows than one parallel task holds.
    for number in 0..10_000u32 {
        let item = format!("ma.156.130100.a7k2/60.010203.1/{number:09}");
        text.extend_from_slice(item.as_bytes());
        text.push(if number % 7 == 0 { b'0' } else { check_by_definition(&item) as u8 });
        offsets.push(text.len() as u32);
    }
    let rows = parse_many(&text, &offsets, None);
    let mut refused = 0;
    for (bounds, row) in offsets.windows(2).zip(&rows) {
        assert_eq!(*row, Code::parse_bytes(&text[bounds[0] as usize..bounds[1] as usize], None));
        refused += usize::from(row.is_err());
    }
    assert!((1300..1430).contains(&refused), "about 35 of 36 wrong check characters in every seventh row: {refused}");
}

#[test]
fn every_substitution_in_one_code_is_noticed() {
    let text = "MA.156.130100.A7K2/60.010203.1/000012345B";
    let mut tried = 0;
    for (place, original) in text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()) {
        for replacement in ('0'..='9').chain('A'..='Z').filter(|&c| c != original) {
            let mut changed = text.to_string();
            changed.replace_range(place..=place, &replacement.to_string());
            assert!(matches!(Code::parse(&changed, None), Err(Error::Code(_)) | Ok(Code::Foreign(_))), "{changed}");
            tried += 1;
        }
    }
    assert_eq!(tried, 34 * 35);
}
