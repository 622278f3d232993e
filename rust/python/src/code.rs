//! Codes.
use crate::bytes::Text;
use crate::error::{to_py, MalformedInput};
use cityid_core::code::{self, Category, City, Class, Model, Org, Serial, Use};
use cityid_core::error::Error;
use cityid_core::uscc;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A code: who issued it, what for, which one.
#[pyclass(frozen, module = "cityid")]
pub struct Code(pub code::Code);

#[pymethods]
impl Code {
    #[staticmethod]
    #[pyo3(signature = (text, members=None))]
    fn parse(text: Text, members: Option<&Members>) -> PyResult<Code> {
        code::Code::parse(&text.0, members.map(|members| &members.0)).map(Code).map_err(to_py)
    }

    #[staticmethod]
    fn from_did(did: Text) -> PyResult<Code> {
        code::Code::from_did(&did.0, None).map(Code).map_err(to_py)
    }

    #[getter]
    fn text(&self) -> String {
        self.0.text()
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    #[getter]
    fn city(&self) -> Option<String> {
        self.0.city().map(|city| city.as_str().to_owned())
    }

    #[getter]
    fn org(&self) -> Option<String> {
        self.0.org().map(|org| org.as_str().to_owned())
    }

    #[getter(r#use)]
    fn usage(&self) -> Option<String> {
        self.0.category().map(|category| category.use_.as_str().to_owned())
    }

    #[getter]
    fn cls(&self) -> Option<String> {
        self.0.category().map(|category| category.class.as_str().to_owned())
    }

    #[getter]
    fn model(&self) -> Option<String> {
        self.0.category().map(|category| category.model.as_str().to_owned())
    }

    #[getter]
    fn serial(&self) -> Option<u32> {
        self.0.serial().map(Serial::get)
    }

    #[getter]
    fn check(&self) -> Option<char> {
        self.0.check()
    }

    #[getter]
    fn alias(&self) -> Option<String> {
        self.0.alias()
    }

    #[getter]
    fn did(&self) -> String {
        self.0.did()
    }

    #[getter]
    fn path(&self) -> String {
        self.0.path()
    }

    fn __str__(&self) -> String {
        self.0.text()
    }

    fn __repr__(&self) -> String {
        format!("Code({:?})", self.0.text())
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Code>().is_ok_and(|other| other.get().0 == self.0)
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

/// The member cities.
#[pyclass(frozen, module = "cityid")]
pub struct Members(pub code::Members);

#[pymethods]
impl Members {
    #[new]
    fn new(cities: Vec<String>) -> PyResult<Members> {
        let cities: Vec<City> = cities.iter().map(|city| City::parse(city)).collect::<Result<_, _>>().map_err(to_py)?;
        Ok(Members(cities.into_iter().collect()))
    }

    fn __contains__(&self, city: &str) -> bool {
        City::parse(city).is_ok_and(|city| self.0.contains(city))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// Parses many texts; a bad row gives an error text in its place, never an exception.
#[pyfunction]
#[pyo3(signature = (texts, members=None))]
pub fn parse_many<'py>(py: Python<'py>, texts: Vec<Text>, members: Option<&Members>) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let members = members.map(|members| &members.0);
    let parsed = py.detach(|| {
        let mut offsets = Vec::with_capacity(texts.len() + 1);
        offsets.push(0u32);
        let mut joined = String::new();
        for text in &texts {
            joined.push_str(&text.0);
            offsets.push(u32::try_from(joined.len()).ok()?);
        }
        Some(code::parse_many(joined.as_bytes(), &offsets, members))
    });
    let parsed = parsed.ok_or_else(|| MalformedInput::new_err("more than 4 GiB of text; parse it in parts"))?;
    let codes = PyList::empty(py);
    let errors = PyList::empty(py);
    for result in parsed {
        match result {
            Ok(code) => {
                codes.append(Bound::new(py, Code(code))?)?;
                errors.append(py.None())?;
            }
            Err(error) => {
                codes.append(py.None())?;
                errors.append(error.to_string())?;
            }
        }
    }
    Ok((codes, errors))
}

/// The canonical text of an item's code, check character included.
#[pyfunction]
pub fn make_item_code(city: &str, org: Option<&str>, r#use: &str, cls: &str, model: &str, serial: u32) -> PyResult<String> {
    let make = || {
        let category = Category { use_: Use::parse(r#use)?, class: Class::parse(cls)?, model: Model::parse(model)? };
        let org = org.map(Org::parse).transpose()?;
        Ok(code::Code::Item { city: City::parse(city)?, org, category, serial: Serial::new(serial)? }.text())
    };
    make().map_err(to_py)
}

/// The canonical texts of many items of one category, given by its code.
#[pyfunction]
pub fn make_item_codes(py: Python<'_>, category: &str, serials: Vec<u32>) -> PyResult<Vec<String>> {
    let make = || {
        let code::Code::Category { city, org, category } = code::Code::parse(category, None)? else {
            return Err(Error::malformed(format!("{category:?} is not the code of a category, such as MA.156.130100.A7K2/60.010203.1")));
        };
        let code = |serial| Ok(code::Code::Item { city, org, category, serial: Serial::new(serial)? }.text());
        serials.into_iter().map(code).collect()
    };
    py.detach(make).map_err(to_py)
}

/// Checks a unified social credit code (GB 32100); `CodeError` says what is wrong.
#[pyfunction]
pub fn check_uscc(text: &str) -> PyResult<()> {
    uscc::check(text).map_err(to_py)
}
