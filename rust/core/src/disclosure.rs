//! Disclosures (P76): the values and salts that a holder shows of some attributes, and whether the chain's commitments say the same.
//!
//! - Pure and offline: an answer and a trust decide. What a disclosure says besides its salts and values is not believed.
//! - Each attribute has a result of its own. The record that decides is the verifier's (P41): also one of a sealed table or an override.
//! - That a value was committed to says nothing about whether it is true.
use crate::answer::{verify, Answer, Options, Verdict, VerdictKind};
use crate::code::Code;
use crate::commitment::commitment;
use crate::error::Error;
use crate::hash::hex;
use crate::json::{self, Object};
use crate::record::Record;
use crate::trust::Trust;
use serde_json::{json, Value};

/// The longest disclosure file, its answer included.
pub const MAX_DISCLOSURE: usize = 2 << 20;
/// The most attributes of a disclosure: as many as a record can hold.
pub const MAX_ATTRIBUTES: usize = 256;

/// One attribute that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub attribute: String,
    /// What its value means: a name or address that the holder chose.
    pub schema: String,
    /// The salt of its commitment.
    pub salt: [u8; 16],
    /// The value.
    pub value: String,
}

/// What a holder shows of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// The subject.
    pub code: Code,
    /// What is shown of it, each name once.
    pub attributes: Vec<Attribute>,
    /// An answer about the subject, when it travels along.
    pub answer: Option<Answer>,
}

/// What was found out about one attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The record holds the commitment to this value.
    Proven,
    /// The record holds another commitment under this name: another value, schema or salt, or one of an older version.
    Differs,
    /// The record holds no commitment under this name.
    NotCommitted,
    /// There is no proven record of the subject; the verdict says why.
    NotProven,
}

impl Finding {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Finding::Proven => "proven",
            Finding::Differs => "differs",
            Finding::NotCommitted => "not_committed",
            Finding::NotProven => "not_proven",
        }
    }
}

/// What a disclosure is worth under a trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosed {
    /// The verdict on the answer.
    pub verdict: Verdict,
    /// The attributes in their order, with what was found.
    pub attributes: Vec<(Attribute, Finding)>,
}

impl Disclosed {
    /// Whether every attribute is proven, of a subject that is registered. An old header makes it false: see the verdict.
    pub fn is_proven(&self) -> bool {
        self.verdict.verdict == VerdictKind::Registered && self.attributes.iter().all(|(_, finding)| *finding == Finding::Proven)
    }

    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let attributes: Vec<Value> = self
            .attributes
            .iter()
            .map(|(shown, finding)| {
                json!({"attribute": shown.attribute, "schema": shown.schema, "value": shown.value, "result": finding.name()})
            })
            .collect();
        json!({"cityid": "disclosed", "proven": self.is_proven(), "attributes": attributes, "verdict": self.verdict.to_json()})
    }
}

impl Disclosure {
    /// Reads a disclosure file.
    ///
    /// Errors: `Malformed` for anything that is not one; [`Error::Code`] for a code that breaks the grammar.
    pub fn from_json(text: &str) -> Result<Disclosure, Error> {
        let mut object = json::parse_object(text, MAX_DISCLOSURE, "a disclosure")?;
        object.expect_text("cityid", "disclosure")?;
        let text = object.text("code")?;
        let code = Code::parse(&text, None)?;
        if matches!(code, Code::Foreign(_)) || code.text() != text {
            return Err(Error::malformed(format!("a disclosure about {text:?}, which is not a canonical code of a city")));
        }
        let attributes = object.objects("attributes", MAX_ATTRIBUTES)?.into_iter().map(read_attribute).collect::<Result<Vec<_>, _>>()?;
        let repeated =
            attributes.iter().enumerate().any(|(place, one)| attributes[..place].iter().any(|other| other.attribute == one.attribute));
        if attributes.is_empty() || repeated {
            return Err(Error::malformed("a disclosure without attributes, or with one of them twice"));
        }
        // An answer reads its own text, with its own limits.
        let answer = object.optional("answer").map(|answer| Answer::from_json(&answer.to_string())).transpose()?;
        object.end()?;
        Ok(Disclosure { code, attributes, answer })
    }

    /// Checks what is shown under an answer, or under the one that travels along.
    ///
    /// `options.code` is not looked at: the answer must be about the code of the disclosure.
    ///
    /// Errors: `Malformed` when there is no answer at all.
    pub fn verify(&self, answer: Option<&Answer>, trust: &Trust, options: &Options<'_>) -> Result<Disclosed, Error> {
        let Some(answer) = answer.or(self.answer.as_ref()) else {
            return Err(Error::malformed("a disclosure without an answer; fetch the answer about its code and give both"));
        };
        let code = self.code.text();
        let verdict = verify(answer, trust, &Options { code: Some(&code), ..*options });
        let registered = verdict.verdict == VerdictKind::Registered || verdict.was == Some(VerdictKind::Registered);
        let record = verdict.record.as_ref().filter(|_| registered);
        let attributes =
            self.attributes.iter().map(|shown| Ok((shown.clone(), shown.find(&code, record)?))).collect::<Result<_, Error>>()?;
        Ok(Disclosed { verdict, attributes })
    }
}

fn read_attribute(mut object: Object) -> Result<Attribute, Error> {
    let attribute = Attribute {
        attribute: object.text("attribute")?,
        schema: object.text("schema")?,
        salt: json::fixed_hex(&object.text("salt")?)?,
        value: object.text("value")?,
    };
    object.end()?;
    // What no commitment can hold is refused here, by its limits.
    commitment("", &attribute.attribute, &attribute.schema, &attribute.salt, &attribute.value)?;
    Ok(attribute)
}

impl Attribute {
    fn find(&self, code: &str, record: Option<&Record>) -> Result<Finding, Error> {
        let Some(record) = record else { return Ok(Finding::NotProven) };
        let Some((_, committed)) = record.commitments.iter().find(|(name, _)| *name == self.attribute) else {
            return Ok(Finding::NotCommitted);
        };
        let shown = commitment(code, &self.attribute, &self.schema, &self.salt, &self.value)?;
        Ok(if shown == *committed { Finding::Proven } else { Finding::Differs })
    }

    /// The JSON form that [`Disclosure::from_json`] reads.
    pub fn to_json(&self) -> Value {
        json!({"attribute": self.attribute, "schema": self.schema, "salt": hex(&self.salt), "value": self.value})
    }
}
