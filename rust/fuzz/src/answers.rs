//! What a relying party is shown: answers, histories, pages, disclosures, and the trust it holds them against.
//!
//! The golden trust is the only one here, and its cities signed exactly the golden headers. So whatever a fuzzer makes of an answer, a
//! verdict that claims something rests on a golden header; anything else would be a forgery.
use crate::golden::{family, read};
use crate::text;
use cityid_core::answer::{verify_bytes, Answer, CertifiedHeader, Options, Verdict, VerdictKind};
use cityid_core::audit::{self, Page};
use cityid_core::block::Header;
use cityid_core::disclosure::Disclosure;
use cityid_core::history::{self, History};
use cityid_core::trust::Trust;
use cityid_core::vote::{verify_certificate, CommitCertificate};
use std::collections::BTreeMap;
use std::sync::OnceLock;

struct Golden {
    trust: Trust,
    answers: Vec<Answer>,
    /// Verdicts of the golden answers by header and subject.
    verdicts: BTreeMap<(Vec<u8>, String), Vec<VerdictKind>>,
    headers: Vec<Vec<u8>>,
}

fn golden() -> &'static Golden {
    static GOLDEN: OnceLock<Golden> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let trust = Trust::from_json(text(&read("trust.json")).expect("text")).expect("the golden trust");
        let answers: Vec<Answer> = family("answer-*.hex").iter().filter_map(|(_, bytes)| Answer::decode(bytes).ok()).collect();
        let mut verdicts: BTreeMap<_, Vec<VerdictKind>> = BTreeMap::new();
        for answer in &answers {
            let verdict = cityid_core::answer::verify(answer, &trust, &Options::default());
            if claims(&verdict) {
                verdicts.entry((answer.block.header.clone(), answer.subject.clone())).or_default().push(verdict.verdict);
            }
        }
        let mut headers: Vec<Vec<u8>> = verdicts.keys().map(|(header, _)| header.clone()).collect();
        headers.push(CertifiedHeader::decode(&read("certified-header.hex")).expect("the golden header").header);
        headers.dedup();
        Golden { trust, answers, verdicts, headers }
    })
}

/// Whether a verdict says something about the state of the network.
fn claims(verdict: &Verdict) -> bool {
    !matches!(verdict.verdict, VerdictKind::Invalid | VerdictKind::Unknown)
}

/// A verdict that claims something must rest on a header that the golden cities signed, and must say of a golden subject what the golden
/// answer says; only a table may be left out.
fn check_verdict(answer: &Answer, verdict: &Verdict) {
    if !claims(verdict) {
        return;
    }
    assert!(golden().headers.contains(&answer.block.header), "a header that nobody signed: {:?}", verdict.verdict);
    if let Some(known) = golden().verdicts.get(&(answer.block.header.clone(), answer.subject.clone())) {
        assert!(
            known.contains(&verdict.verdict) || verdict.verdict == VerdictKind::Unavailable,
            "{} was {known:?} and is {:?}",
            answer.subject,
            verdict.verdict
        );
    }
}

/// [`Answer::decode`] and the verifier.
pub(crate) fn answer(data: &[u8]) {
    let verdict = verify_bytes(data, &golden().trust, &Options::default());
    match Answer::decode(data) {
        Ok(answer) => {
            assert_eq!(answer.encode(), data);
            check_verdict(&answer, &verdict);
            assert_eq!(Answer::from_json(&answer.to_json()).as_ref(), Ok(&answer), "the JSON form says the same");
        }
        Err(_) => assert_eq!(verdict.verdict, VerdictKind::Invalid),
    }
}

/// [`Answer::from_json`]; what it takes has a CBOR form, with the same verdict.
pub(crate) fn answer_json(data: &[u8]) {
    let Some(Ok(answer)) = text(data).map(Answer::from_json) else { return };
    let verdict = verify_bytes(&answer.encode(), &golden().trust, &Options::default());
    assert_eq!(verdict, cityid_core::answer::verify(&answer, &golden().trust, &Options::default()));
    check_verdict(&answer, &verdict);
}

/// [`CommitCertificate::decode`] and its verifier.
pub(crate) fn certificate(data: &[u8]) {
    let Ok(certificate) = CommitCertificate::decode(data) else { return };
    assert_eq!(certificate.encode(), data);
    let trust = &golden().trust;
    if verify_certificate(&trust.genesis, &trust.validators.keys(), &certificate).is_ok() {
        let known = CommitCertificate::decode(&read("certificate.hex")).expect("the golden certificate");
        assert_eq!((certificate.height, certificate.value), (known.height, known.value), "a value that nobody signed");
    }
}

/// [`CertifiedHeader::decode`], and a trust that walks over it.
pub(crate) fn certified_header(data: &[u8]) {
    let Ok(block) = CertifiedHeader::decode(data) else { return };
    assert_eq!(block.encode(), data);
    let trust = &golden().trust;
    if let Ok(header) = Header::decode(&block.header) {
        if block.verify(&header, &trust.validators).is_ok() {
            assert!(golden().headers.contains(&block.header), "a header that nobody signed");
        }
    }
    if let Ok(later) = trust.advance(&block, None) {
        assert!(later.height > trust.height);
    }
}

/// [`History::decode`] and the verifier.
pub(crate) fn history(data: &[u8]) {
    let told = history::verify_bytes(data, &golden().trust, &Options::default());
    let Ok(history) = History::decode(data) else { return };
    assert_eq!(history.encode(), data);
    match &history.answer {
        Some(answer) => check_verdict(answer, &told.verdict),
        None => assert_eq!(told.verdict.verdict, VerdictKind::Invalid),
    }
    if !claims(&told.verdict) {
        assert!(told.versions.is_empty() || told.verdict.verdict == VerdictKind::Unknown);
    }
}

/// [`History::from_json`]; what it takes has a CBOR form.
pub(crate) fn history_json(data: &[u8]) {
    let Some(Ok(history)) = text(data).map(History::from_json) else { return };
    assert_eq!(History::decode(&history.encode()).as_ref(), Ok(&history));
    assert_eq!(History::from_json(&history.to_json()).as_ref(), Ok(&history));
}

/// [`Page::decode`] and the verifier.
pub(crate) fn page(data: &[u8]) {
    let Ok(page) = Page::decode(data) else { return };
    assert_eq!(page.encode(), data);
    if page.verify(&golden().trust).is_ok() {
        assert!(golden().headers.contains(&page.block.header), "a header that nobody signed");
    }
}

/// [`Disclosure::from_json`] and the verifier.
pub(crate) fn disclosure(data: &[u8]) {
    let Some(Ok(disclosure)) = text(data).map(Disclosure::from_json) else { return };
    for answer in golden().answers.iter().map(Some).take(3).chain([None]) {
        if let Ok(shown) = disclosure.verify(answer, &golden().trust, &Options::default()) {
            if let Some(answer) = answer.or(disclosure.answer.as_ref()) {
                check_verdict(answer, &shown.verdict);
            }
        }
    }
}

/// [`Trust::decode`].
pub(crate) fn trust(data: &[u8]) {
    let Ok(trust) = Trust::decode(data) else { return };
    assert_eq!(trust.encode(), data);
    assert_eq!(trust.words().split(' ').count(), 6);
    for answer in golden().answers.iter().take(2) {
        cityid_core::answer::verify(answer, &trust, &Options::default());
    }
}

/// [`Trust::from_json`], of trust files and genesis files; what it takes survives both forms.
pub(crate) fn trust_json(data: &[u8]) {
    let Some(Ok(trust)) = text(data).map(Trust::from_json) else { return };
    assert_eq!(Trust::decode(&trust.encode()).as_ref(), Ok(&trust));
    assert_eq!(Trust::from_json(&trust.to_json()).as_ref(), Ok(&trust));
}

fn histories() -> Vec<History> {
    let answers = golden().answers.iter().take(4);
    answers
        .map(|answer| History {
            answer: Some(answer.clone()),
            versions: vec![read("record-08-item.hex")],
            headers: vec![history::LoggedHeader { header: answer.block.header.clone(), path: answer.block.log_path.clone() }],
        })
        .collect()
}

pub(crate) fn history_seeds() -> Vec<Vec<u8>> {
    histories().iter().map(History::encode).collect()
}

pub(crate) fn history_json_seeds() -> Vec<Vec<u8>> {
    histories().iter().map(|history| history.to_json().into_bytes()).collect()
}

pub(crate) fn page_seeds() -> Vec<Vec<u8>> {
    let block = CertifiedHeader::decode(&read("certified-header.hex")).expect("the golden header");
    let entries =
        vec![audit::Entry { key: read("key-08-item.hex"), record: read("record-08-item.hex"), versions: vec![read("record-08-item.hex")] }];
    let proof = golden().answers[0].proof.clone();
    [Page { block: block.clone(), ..Page::default() }, Page { entries, proof, block }].iter().map(Page::encode).collect()
}

pub(crate) fn disclosure_seeds() -> Vec<Vec<u8>> {
    let code = golden().answers.iter().map(|answer| answer.subject.clone()).find(|subject| subject.len() > 40).expect("an item");
    let (schema, salt) = ("00".repeat(32), "00".repeat(32));
    let attribute = format!(r#"{{"attribute": "name", "schema": "{schema}", "salt": "{salt}", "value": "lamp"}}"#);
    let alone = format!(r#"{{"cityid": "disclosure", "version": 1, "code": "{code}", "attributes": [{attribute}]}}"#);
    vec![alone.replace(r#""version": 1, "#, "").into_bytes(), alone.into_bytes()]
}
