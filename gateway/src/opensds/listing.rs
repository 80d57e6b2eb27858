//! Lists: `limit`, `offset`, `sortKey`, `sortDir`, and any field with the value that it has to have.

use std::cmp::Ordering;

use serde_json::Value;
use utoipa::openapi::path::Parameter;

use crate::{openapi, problem::Problem};

/// The order when none is asked for.
const SORT_KEY: &str = "createdAt";

/// What a list of objects with these fields can be asked for.
pub(super) fn params(known: &[&str]) -> Vec<Parameter> {
    let known_all = known.join(", ");
    let sort_key = format!("The field to order by, {SORT_KEY} without: {known_all}.");
    let mut params = vec![
        openapi::query_count("limit", "At most so many."),
        openapi::query_count("offset", "How many to leave out first."),
        openapi::query_text("sortKey", &sort_key),
        openapi::query_text("sortDir", "desc, as without, or asc."),
    ];
    let filters = known
        .iter()
        .map(|field| openapi::query_text(field, &format!("Only those with this {field}.")));
    params.extend(filters);
    params
}

/// What a list is to show.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    limit: usize,
    offset: usize,
    sort_key: String,
    descending: bool,
    filters: Vec<(String, String)>,
}

impl Listing {
    /// Reads a query, for objects with these fields.
    pub(super) fn parse(query: Vec<(String, String)>, known: &[&str]) -> Result<Self, Problem> {
        let mut listing = Self {
            limit: usize::MAX,
            offset: 0,
            sort_key: SORT_KEY.to_owned(),
            descending: true,
            filters: Vec::new(),
        };
        for (key, value) in query {
            match key.as_str() {
                "limit" => listing.limit = number(&key, &value)?,
                "offset" => listing.offset = number(&key, &value)?,
                "sortDir" => {
                    listing.descending = match value.to_ascii_lowercase().as_str() {
                        "desc" => true,
                        "asc" => false,
                        _ => return Err(wrong(&format!("sortDir: {value:?} is not asc or desc"))),
                    }
                }
                "sortKey" => {
                    let field = known
                        .iter()
                        .find(|field| field.eq_ignore_ascii_case(&value));
                    let field = field.ok_or_else(|| unknown(&value, known))?;
                    listing.sort_key = (*field).to_owned();
                }
                _ => {
                    let field = known.iter().find(|field| field.eq_ignore_ascii_case(&key));
                    let field = field.ok_or_else(|| unknown(&key, known))?;
                    listing.filters.push(((*field).to_owned(), value));
                }
            }
        }
        Ok(listing)
    }

    /// What is to be shown of all there is.
    pub(super) fn of(&self, all: Vec<Value>) -> Vec<Value> {
        let mut shown: Vec<Value> = all
            .into_iter()
            .filter(|object| {
                let mut filters = self.filters.iter();
                filters.all(|(field, wanted)| text(&object[field]) == *wanted)
            })
            .collect();
        shown.sort_by(|a, b| {
            let order = compare(&a[&self.sort_key], &b[&self.sort_key]);
            // Ids begin alike and end with the time: what is equal keeps an order.
            let order = order.then_with(|| compare(&a["id"], &b["id"]));
            if self.descending {
                order.reverse()
            } else {
                order
            }
        });
        let shown = shown.into_iter().skip(self.offset).take(self.limit);
        shown.collect()
    }
}

fn number(key: &str, value: &str) -> Result<usize, Problem> {
    let number = value.parse();
    number.map_err(|_| wrong(&format!("{key}: {value:?} is not a number")))
}

fn unknown(name: &str, known: &[&str]) -> Problem {
    let known = known.join(", ");
    wrong(&format!(
        "{name:?} is no field; there are {known}, and limit, offset, sortKey, sortDir"
    ))
}

fn wrong(problem: &str) -> Problem {
    Problem::bad_request(problem)
}

/// A value as it stands in a query.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => text(a).cmp(&text(b)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KNOWN: [&str; 4] = ["id", "createdAt", "name", "size"];

    fn listed(query: &[(&str, &str)]) -> Vec<String> {
        let query = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let listing = Listing::parse(query.collect(), &KNOWN).unwrap();
        let all = vec![
            json!({"id": "a", "createdAt": "2026-01-01T00:00:00", "name": "x", "size": 10}),
            json!({"id": "b", "createdAt": "2026-01-03T00:00:00", "name": "y", "size": 9}),
            json!({"id": "c", "createdAt": "2026-01-02T00:00:00", "size": 9}),
        ];
        let shown = listing.of(all).into_iter();
        shown.map(|object| text(&object["id"])).collect()
    }

    #[test]
    fn filters_order_and_pages() {
        assert_eq!(listed(&[]), ["b", "c", "a"]);
        assert_eq!(listed(&[("sortDir", "ASC")]), ["a", "c", "b"]);
        assert_eq!(
            listed(&[("sortKey", "SIZE"), ("sortDir", "asc")]),
            ["b", "c", "a"]
        );
        assert_eq!(listed(&[("size", "9"), ("limit", "1")]), ["b"]);
        assert_eq!(listed(&[("size", "9"), ("offset", "1")]), ["c"]);
        assert_eq!(listed(&[("offset", "7")]), [""; 0]);
        assert_eq!(listed(&[("name", "")]), ["c"]);
        assert_eq!(listed(&[("name", "z")]), [""; 0]);
    }

    #[test]
    fn mistakes_are_named() {
        for (key, value) in [
            ("limit", "-1"),
            ("limit", "x"),
            ("offset", "1e3"),
            ("sortDir", "up"),
            ("sortKey", "colour"),
            ("colour", "red"),
        ] {
            let query = vec![(key.to_owned(), value.to_owned())];
            let problem = Listing::parse(query, &KNOWN).unwrap_err();
            assert!(problem.message.contains(key) || problem.message.contains(value));
            assert_eq!(problem.status, 400);
        }
    }
}
