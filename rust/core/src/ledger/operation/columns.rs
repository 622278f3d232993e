//! Operations from columns: many items of one category, and the old numbers of some of them, as a register has them.
//!
//! What comes out is what the JSON form of the same items gives: the lists of an operation are in the order that P1 and P25 ask for,
//! whatever order they came in.
use super::{Action, Commitments, Holder, NewItem, Operation, MAX_ALIAS, MAX_COMMITMENTS, MAX_ITEMS, MAX_NAMESPACE};
use crate::code::{Category, Code, Serial};
use crate::error::Error;
use crate::record::Status;
use crate::wire::text_order;

/// Items to register, a row each.
#[derive(Clone, Debug)]
pub struct ItemColumns {
    /// Who issues them.
    pub holder: Holder,
    /// What they are.
    pub category: Category,
    /// A serial a row.
    pub serials: Vec<Serial>,
    /// Commitments a row; empty when no row has any.
    pub commitments: Vec<Commitments>,
    /// Where the old numbers are registered.
    pub namespace: String,
    /// The old number of a row, if it has one; empty when no row has one.
    pub aliases: Vec<Option<String>>,
}

impl ItemColumns {
    /// The items (P25) and after them their old numbers (P49), if there are any.
    ///
    /// Errors: `Malformed` for columns of different lengths, no row, a serial or number that stands twice, and what no operation holds.
    pub fn operations(self) -> Result<Vec<Operation>, Error> {
        let ItemColumns { holder, category, serials, mut commitments, namespace, aliases } = self;
        let rows = serials.len();
        if [commitments.len(), aliases.len()].iter().any(|length| *length != 0 && *length != rows) || rows > MAX_ITEMS {
            return Err(Error::malformed(format!(
                "{rows} serials, {} commitments and {} numbers; each column has as many rows, at most {MAX_ITEMS}, or none",
                commitments.len(),
                aliases.len()
            )));
        }
        let code = |serial: &Serial| Code::Item { city: holder.city, org: holder.org, category, serial: *serial };
        let aliases: Vec<(String, Code)> =
            aliases.into_iter().zip(&serials).filter_map(|(alias, serial)| alias.map(|alias| (alias, code(serial)))).collect();
        commitments.resize_with(rows, Vec::new);
        let items = serials.into_iter().zip(commitments).map(|(serial, commitments)| {
            Ok(NewItem { serial, status: Status::Active, commitments: commitments_in_order(commitments)?, services: Vec::new() })
        });
        let items = in_order(items.collect::<Result<_, Error>>()?, |item| item.serial)?;
        let mut actions = vec![Action::RegisterItems { holder, category, items }];
        if !aliases.is_empty() {
            actions.push(aliases_in_order(namespace, aliases)?);
        }
        Ok(actions.into_iter().map(|action| Operation { action, reason: None, basis: None }).collect())
    }
}

/// Items by serial, each once.
pub(super) fn in_order<T>(mut items: Vec<T>, serial_of: impl Fn(&T) -> Serial) -> Result<Vec<T>, Error> {
    items.sort_by_key(&serial_of);
    if items.is_empty() || items.windows(2).any(|pair| serial_of(&pair[0]) == serial_of(&pair[1])) {
        return Err(Error::malformed("items must be at least one, and every serial once"));
    }
    Ok(items)
}

/// The registration of aliases, by alias, each once.
pub(super) fn aliases_in_order(namespace: String, mut aliases: Vec<(String, Code)>) -> Result<Action, Error> {
    if let Some((alias, _)) = aliases.iter().find(|(alias, _)| alias.len() > MAX_ALIAS) {
        return Err(Error::malformed(format!("the alias {alias:?} is longer than {MAX_ALIAS} bytes")));
    }
    if namespace.len() > MAX_NAMESPACE {
        return Err(Error::malformed(format!("the namespace {namespace:?} is longer than {MAX_NAMESPACE} bytes")));
    }
    aliases.sort_by(|left, right| text_order(&left.0, &right.0));
    if aliases.is_empty() || aliases.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::malformed("aliases must be at least one, and each once"));
    }
    Ok(Action::RegisterAliases { namespace, aliases })
}

/// Commitments by attribute name.
pub(super) fn commitments_in_order(mut commitments: Commitments) -> Result<Commitments, Error> {
    if let Some((name, _)) = commitments.iter().find(|(name, _)| name.len() > 64) {
        return Err(Error::malformed(format!("attribute name {name:?} is longer than 64 bytes")));
    }
    if commitments.len() > MAX_COMMITMENTS {
        return Err(Error::malformed(format!("{} commitments, more than the limit of {MAX_COMMITMENTS}", commitments.len())));
    }
    commitments.sort_unstable_by(|left, right| text_order(&left.0, &right.0));
    Ok(commitments)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::{City, Class, Model, Org, Use};
    use serde_json::json;

    fn columns(serials: &[u32], aliases: &[Option<&str>]) -> ItemColumns {
        let (city, org) = (City::parse("130100").unwrap(), Org::parse("A7K2").unwrap());
        let category =
            Category { use_: Use::parse("60").unwrap(), class: Class::parse("010203").unwrap(), model: Model::parse("1").unwrap() };
        ItemColumns {
            holder: Holder { city, org: Some(org) },
            category,
            serials: serials.iter().map(|serial| Serial::new(*serial).unwrap()).collect(),
            commitments: Vec::new(),
            namespace: "130100.A7K2".to_owned(),
            aliases: aliases.iter().map(|alias| alias.map(str::to_owned)).collect(),
        }
    }

    #[test]
    fn columns_give_the_operations_of_their_json() {
        let mut given = columns(&[7, 3, 12], &[Some("LONG-1"), None, Some("B")]);
        let (left, right) = (("zone".to_owned(), [1; 32]), ("height".to_owned(), [2; 32]));
        given.commitments = vec![vec![left, right], Vec::new(), Vec::new()];
        let code = |serial: u32| {
            let (holder, category) = (given.holder, given.category);
            Code::Item { city: holder.city, org: holder.org, category, serial: Serial::new(serial).unwrap() }.text()
        };
        let items = json!({
            "op": "register_items", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1",
            "items": [
                {"serial": 7, "commitments": {"zone": "01".repeat(32), "height": "02".repeat(32)}}, {"serial": 3}, {"serial": 12},
            ],
        });
        let aliases = json!({
            "op": "register_aliases", "namespace": "130100.A7K2",
            "aliases": [{"alias": "LONG-1", "code": code(7)}, {"alias": "B", "code": code(12)}],
        });
        let expected: Vec<Operation> = [items, aliases].map(|value| Operation::from_json(value).unwrap()).into();
        assert_eq!(given.clone().operations().unwrap(), expected);
        given.aliases.clear();
        assert_eq!(given.operations().unwrap(), expected[..1]);
    }

    #[test]
    fn columns_that_are_no_operations_are_refused_with_the_reason() {
        let refused = |columns: ItemColumns| columns.operations().unwrap_err().to_string();
        assert!(refused(columns(&[], &[])).contains("at least one"));
        assert!(refused(columns(&[1, 1], &[])).contains("every serial once"));
        assert!(refused(columns(&[1, 2], &[Some("A"), Some("A")])).contains("each once"));
        assert!(refused(columns(&[1, 2], &[Some("A")])).contains("each column"));
        assert!(refused(columns(&[1], &[Some(&"x".repeat(65))])).contains("longer than 64"));
        let mut named = columns(&[1], &[Some("A")]);
        named.namespace = "x".repeat(49);
        assert!(refused(named).contains("namespace"));
    }
}
