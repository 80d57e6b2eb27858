//! Lists as Cinder gives them: filtered, sorted, cut into pages with a link to the next.
//!
//! Filters and sort keys are named like what they look at in an entry, so what a list can be asked is what it shows.

use std::cmp::Ordering;

use serde_json::{Map, Value};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use super::{Fault, asked::Asked, bad_input, fields::Flag, ids};
use crate::{openapi, problem::Problem};

/// Most entries of a page: Cinder's own limit.
const ENTRIES_MAX: usize = 1000;

/// What a list can be asked for, besides filters.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes the query; `Query::parse` reads it")]
struct ListParams {
    /// Most entries.
    limit: Option<u32>,
    /// Id of the entry after which the page begins.
    marker: Option<String>,
    /// How many entries to leave out first.
    offset: Option<u32>,
    /// `key:asc` or `key:desc`, several with commas.
    sort: Option<String>,
    /// One key to sort by; not together with `sort`.
    sort_key: Option<String>,
    /// asc or desc; not together with `sort`.
    sort_dir: Option<String>,
    /// Also what other projects made.
    all_tenants: Option<String>,
    /// From 3.45 on: how many there are without limit.
    with_count: Option<String>,
    /// With `all_tenants`: only what this project made.
    project_id: Option<String>,
    /// The same as `project_id`.
    tenant_id: Option<String>,
}

/// What a collection can be filtered and sorted by.
#[derive(Debug)]
pub(super) struct Collection {
    /// As in the path, and in the answer.
    pub(super) name: &'static str,
    /// Keys of an entry.
    pub(super) filters: &'static [&'static str],
    /// Keys of an entry.
    pub(super) sort_keys: &'static [&'static str],
}

impl Collection {
    /// All that its list can be asked for.
    pub(super) fn params(&self) -> Vec<Parameter> {
        let filters = self.filters.iter().map(|name| {
            openapi::query_text(
                name,
                &format!("Only those with this {name}. From 3.34 on with `{name}~`: a part of it is enough."),
            )
        });
        ListParams::into_params(|| Some(ParameterIn::Query))
            .into_iter()
            .chain(filters)
            .collect()
    }
}

/// One entry before it is shown.
#[derive(Debug)]
pub(super) struct Entry {
    /// Who made it; `None` for what came in by other ways than this API: every project sees that.
    pub(super) project: Option<String>,
    /// All that can be shown of it.
    pub(super) view: Value,
}

/// A query that was understood.
#[derive(Debug)]
pub(super) struct Query<'a> {
    of: &'a Collection,
    pairs: &'a [(String, String)],
    limit: usize,
    offset: usize,
    marker: Option<&'a str>,
    sort: Vec<(&'a str, bool)>,
    filters: Vec<Filter<'a>>,
    project: Option<&'a str>,
    all_tenants: bool,
    with_count: bool,
}

#[derive(Debug)]
struct Filter<'a> {
    key: &'a str,
    value: String,
    /// A part of the text is enough (`key~`, from 3.34 on).
    part: bool,
}

impl<'a> Query<'a> {
    /// Reads a query; what it cannot mean is refused.
    pub(super) fn parse(
        of: &'a Collection,
        asked: &Asked,
        pairs: &'a [(String, String)],
    ) -> Result<Self, Fault> {
        let mut query = Self {
            of,
            pairs,
            limit: ENTRIES_MAX,
            offset: 0,
            marker: None,
            sort: Vec::new(),
            filters: Vec::new(),
            project: None,
            all_tenants: false,
            with_count: false,
        };
        let (mut sort, mut sort_key, mut sort_dir) = (None, None, None);
        for (key, value) in pairs {
            let value = value.as_str();
            match key.as_str() {
                "limit" => query.limit = number("limit", value)?.min(ENTRIES_MAX),
                "offset" => query.offset = number("offset", value)?,
                "marker" => query.marker = Some(value),
                "sort" => sort = Some(value),
                "sort_key" => sort_key = Some(value),
                "sort_dir" => sort_dir = Some(value),
                "all_tenants" => query.all_tenants = truth("all_tenants", value)?,
                "with_count" => query.with_count = truth("with_count", value)?,
                "project_id" | "tenant_id" => query.project = Some(value),
                key => query.filter(key, value, asked)?,
            }
        }
        query.with_count &= asked.version.has(45);
        if sort.is_some() && (sort_key.is_some() || sort_dir.is_some()) {
            return Err(bad_input(
                "'sort_key' and 'sort_dir' cannot be used together with 'sort'",
            ));
        }
        match (sort, sort_key, sort_dir) {
            (Some(sort), ..) => {
                for item in sort.split(',') {
                    let (key, direction) = item.split_once(':').unwrap_or((item, "desc"));
                    query.sort_by(key, direction)?;
                }
            }
            (None, None, None) => {}
            (None, key, direction) => {
                query.sort_by(key.unwrap_or("created_at"), direction.unwrap_or("desc"))?;
            }
        }
        Ok(query)
    }

    fn filter(&mut self, key: &'a str, value: &'a str, asked: &Asked) -> Result<(), Fault> {
        let (name, part) = match key.strip_suffix('~') {
            Some(name) if asked.version.has(34) => (name, true),
            _ => (key, false),
        };
        if self.of.filters.contains(&name) {
            let is_id = matches!(name, "id" | "volume_id" | "snapshot_id" | "source_volid");
            self.filters.push(Filter {
                key: name,
                value: if is_id {
                    ids::shown(value)
                } else {
                    value.to_owned()
                },
                part,
            });
            return Ok(());
        }
        // Before that, what is not known is not looked at.
        if !asked.version.has(31) {
            return Ok(());
        }
        Err(bad_input(format!(
            "Invalid filters {key} are found in query options: there are {}",
            self.of.filters.join(", ")
        )))
    }

    fn sort_by(&mut self, key: &'a str, direction: &str) -> Result<(), Fault> {
        let key = match key.trim() {
            // As the database calls it: clients translate it themselves.
            "display_name" => "name",
            key => key,
        };
        if !self.of.sort_keys.contains(&key) {
            return Err(bad_input(format!(
                "invalid sort key {key:?}: there are {}",
                self.of.sort_keys.join(", ")
            )));
        }
        let is_ascending = match direction.trim() {
            "asc" => true,
            "desc" => false,
            other => {
                return Err(bad_input(format!(
                    "invalid sort direction {other:?}: it is asc or desc"
                )));
            }
        };
        self.sort.push((key, is_ascending));
        Ok(())
    }

    /// The body that is answered. `detailed`: all of each entry, or only what names it.
    pub(super) fn answer(
        &self,
        asked: &Asked,
        mut entries: Vec<Entry>,
        detailed: bool,
    ) -> Result<Value, Fault> {
        entries.retain(|entry| self.is_wanted(entry, asked));
        entries.sort_by(|a, b| self.order(a, b));
        let count = entries.len();
        let begin = match self.marker {
            None => 0,
            Some(marker) => {
                let id = ids::shown(marker);
                let found = entries.iter().position(|e| e.view["id"] == id);
                let Some(found) = found else {
                    return Err(bad_input(format!("marker {marker:?} is none of this list")));
                };
                found + 1
            }
        };
        let begin = begin.saturating_add(self.offset).min(count);
        let end = begin.saturating_add(self.limit).min(count);
        let page: Vec<Value> = entries
            .drain(begin..end)
            .map(|entry| {
                if detailed {
                    entry.view
                } else {
                    summary(&entry.view)
                }
            })
            .collect();
        let mut body = Map::new();
        if end < count
            && let Some(last) = page.last().and_then(|entry| entry["id"].as_str())
        {
            let path = if detailed { "/detail" } else { "" };
            let address = asked.address(&format!("{}{path}", self.of.name));
            let href = format!("{address}?{}", self.next(last));
            let links = serde_json::json!([{"rel": "next", "href": href}]);
            body.insert(format!("{}_links", self.of.name), links);
        }
        body.insert(self.of.name.to_owned(), Value::Array(page));
        if self.with_count {
            body.insert("count".to_owned(), Value::from(count));
        }
        Ok(Value::Object(body))
    }

    fn is_wanted(&self, entry: &Entry, asked: &Asked) -> bool {
        let of_project = match (&entry.project, self.project) {
            (project, Some(wanted)) if self.all_tenants => project.as_deref() == Some(wanted),
            (Some(project), _) if !self.all_tenants => *project == asked.project,
            _ => true,
        };
        of_project
            && self.filters.iter().all(|filter| {
                let found = text(&entry.view[filter.key]);
                match filter.part {
                    true => found.contains(&filter.value),
                    false => found == filter.value,
                }
            })
    }

    fn order(&self, a: &Entry, b: &Entry) -> Ordering {
        let newest_first = [("created_at", false), ("id", false)];
        let by = self.sort.iter().chain(&newest_first);
        for (key, is_ascending) in by {
            let order = compare(&a.view[key], &b.view[key]);
            let order = if *is_ascending {
                order
            } else {
                order.reverse()
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    /// The query of the next page.
    fn next(&self, last: &str) -> String {
        let kept = self.pairs.iter();
        let kept = kept.filter(|(key, _)| key != "marker" && key != "offset");
        let kept = kept.map(|(key, value)| (key.as_str(), value.as_str()));
        kept.chain([("marker", last)])
            .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
            .collect::<Vec<_>>()
            .join("&")
    }
}

/// What names an entry.
pub(super) fn summary(view: &Value) -> Value {
    let shown = ["id", "name", "links"];
    let pairs = shown.map(|key| (key.to_owned(), view[key].clone()));
    Value::Object(pairs.into_iter().collect())
}

fn number(name: &str, value: &str) -> Result<usize, Fault> {
    // What a database counts in a signed number.
    let number = value
        .parse()
        .ok()
        .filter(|n: &u32| i32::try_from(*n).is_ok());
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| {
        Problem::bad_request(format!(
            "{name} has to be a number of 0 or more, not {value:?}"
        ))
        .into()
    })
}

fn truth(name: &str, value: &str) -> Result<bool, Fault> {
    match Flag::parse(value) {
        Some(flag) => Ok(flag.0),
        None => Err(bad_input(format!(
            "{name} has to be true or false, not {value:?}"
        ))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_u64(), b.as_u64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => text(a).cmp(&text(b)),
    }
}

/// As a part of a query.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escaped("a b&c=d~é"), "a%20b%26c%3Dd~%C3%A9");
    }

    #[test]
    fn numbers_are_whole_and_not_too_many() {
        assert_eq!(number("limit", "0").ok(), Some(0));
        for bad in ["", "-1", "x", "1.5", "4294967296", "2147483648"] {
            assert!(number("limit", bad).is_err(), "{bad}");
        }
    }
}
