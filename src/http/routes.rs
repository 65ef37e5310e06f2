//! The routes of a surface as data: what is there, who may use it and how often. Requests are
//! matched against it before anything else is looked at, and the API description is made of it.

use std::fmt;

use axum::http::Method;

use super::error::ErrorKind;
use super::rate_limit::Group;
use crate::auth::Access;

/// A method that routes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// DELETE.
    Delete,
    /// GET.
    Get,
    /// PATCH.
    Patch,
    /// POST.
    Post,
    /// PUT.
    Put,
}

impl Verb {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The method.
    pub method: Verb,
    /// The path, with `{name}` for a segment that varies.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// The section of the API description it belongs to.
    pub tag: &'static str,
    /// What a token must allow; `None` = no token is looked at.
    pub access: Option<Access>,
    /// Limited together with these; `None` = not limited.
    pub group: Option<Group>,
    /// Query parameters.
    pub query: &'static [Parameter],
    /// Name of the body's schema.
    pub body: Option<&'static str>,
    /// What a success holds.
    pub answer: Answer,
    /// What it may answer besides what follows from the above.
    pub also: &'static [ErrorKind],
}

/// A query parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its JSON type.
    pub kind: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it does.
    pub about: &'static str,
}

/// What a success holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// JSON of the schema of this name.
    Json(&'static str),
    /// The same with 202: what was asked for is going on.
    Begun(&'static str),
    /// Text of this type.
    Text(&'static str),
}

/// What a method and a path lead to.
#[derive(Debug)]
pub enum Found {
    /// To a route.
    Route(&'static Route),
    /// To a path that is there without the slashes at its end, escaped.
    Moved(String),
    /// To a path that has other methods: these, for the `Allow` header.
    WrongMethod(String),
    /// Nowhere.
    Nothing,
}

/// The routes of a surface, ready to be searched.
#[derive(Debug)]
pub struct RouteTable {
    /// One for each path, the most specific first.
    paths: Vec<(Vec<&'static str>, Vec<&'static Route>)>,
}

impl RouteTable {
    /// A table of these routes.
    pub fn new(routes: &'static [Route]) -> Self {
        let mut paths: Vec<(Vec<&'static str>, Vec<&'static Route>)> = Vec::new();
        for route in routes {
            // A path with a slash at its end is there without it too.
            let spellings = [Some(route.path), route.path.strip_suffix('/')];
            for path in spellings.into_iter().flatten() {
                let segments: Vec<&str> = path.split('/').collect();
                match paths.iter_mut().find(|(known, _)| *known == segments) {
                    Some((_, methods)) => methods.push(route),
                    None => paths.push((segments, vec![route])),
                }
            }
        }
        // A fixed segment goes before one that varies, from left to right.
        paths.sort_by_key(|(segments, _)| segments.iter().map(|s| varies(s)).collect::<Vec<_>>());
        Self { paths }
    }

    /// What is at the path of these segments.
    pub fn find(&self, method: &Method, path: &[String]) -> Found {
        if let Some(routes) = self.at(path) {
            return match routes.iter().find(|route| route.method.as_str() == method.as_str()) {
                Some(route) => Found::Route(route),
                None => {
                    let mut methods: Vec<&str> = routes.iter().map(|r| r.method.as_str()).collect();
                    methods.sort_unstable();
                    Found::WrongMethod(methods.join(", "))
                }
            };
        }
        let empty = path.iter().rev().take_while(|segment| segment.is_empty()).count();
        let bare = &path[..path.len() - empty];
        if empty > 0 && self.at(bare).is_some() {
            return Found::Moved(joined(bare));
        }
        Found::Nothing
    }

    fn at(&self, given: &[String]) -> Option<&[&'static Route]> {
        let fits = |segments: &[&str]| {
            segments.len() == given.len()
                && segments.iter().zip(given).all(|(segment, given)| {
                    if varies(segment) { !given.is_empty() } else { segment == given }
                })
        };
        self.paths.iter().find(|(segments, _)| fits(segments)).map(|(_, routes)| routes.as_slice())
    }
}

fn varies(segment: &str) -> bool {
    segment.starts_with('{')
}

/// The segments of a request's path, each with its escapes resolved, so that a slash may be part of
/// one; what is not UTF-8 then is replaced.
pub fn segments(path: &str) -> Vec<String> {
    path.split('/').map(decoded).collect()
}

/// The one way to write the path of these segments.
pub fn joined(segments: &[String]) -> String {
    let escaped = segments.iter().map(|segment| encode_path(segment).replace('/', "%2F"));
    escaped.collect::<Vec<_>>().join("/")
}

fn decoded(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| segment.get(at + 1..at + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The one way to write a path in a URI: everything but letters, digits and `-._~/` escaped.
pub fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn route(method: Verb, path: &'static str) -> Route {
        Route {
            method,
            path,
            summary: "",
            tag: "",
            access: None,
            group: None,
            query: &[],
            body: None,
            answer: Answer::Text("text/plain"),
            also: &[],
        }
    }

    static ROUTES: [Route; 8] = [
        route(Verb::Get, "/lists/"),
        route(Verb::Get, "/health"),
        route(Verb::Get, "/nodes/{id}"),
        route(Verb::Put, "/nodes/{id}"),
        route(Verb::Post, "/nodes"),
        route(Verb::Get, "/nodes"),
        route(Verb::Post, "/nodes/batch"),
        route(Verb::Get, "/nodes/{id}/versions"),
    ];

    fn found(method: Method, path: &str) -> String {
        match RouteTable::new(&ROUTES).find(&method, &segments(path)) {
            Found::Route(route) => format!("{} {}", route.method, route.path),
            Found::Moved(to) => format!("to {to}"),
            Found::WrongMethod(allow) => format!("allow {allow}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_path_counts() {
        assert_eq!(found(Method::GET, "/nodes/x"), "GET /nodes/{id}");
        assert_eq!(found(Method::POST, "/nodes/batch"), "POST /nodes/batch");
        assert_eq!(found(Method::GET, "/nodes/batch"), "allow POST");
        assert_eq!(found(Method::GET, "/nodes/a b/versions"), "GET /nodes/{id}/versions");
    }

    #[test]
    fn other_methods_are_named() {
        assert_eq!(found(Method::HEAD, "/health"), "allow GET");
        assert_eq!(found(Method::OPTIONS, "/nodes"), "allow GET, POST");
        assert_eq!(found(Method::DELETE, "/nodes/x"), "allow GET, PUT");
    }

    #[test]
    fn slashes_at_the_end_move_to_the_path_without() {
        assert_eq!(found(Method::GET, "/health/"), "to /health");
        assert_eq!(found(Method::DELETE, "/nodes/x//"), "to /nodes/x");
        assert_eq!(found(Method::GET, "/nodes/"), "to /nodes");
    }

    #[test]
    fn a_path_that_ends_with_a_slash_is_served_either_way() {
        assert_eq!(found(Method::GET, "/lists/"), "GET /lists/");
        assert_eq!(found(Method::GET, "/lists"), "GET /lists/");
        assert_eq!(found(Method::GET, "/lists//"), "to /lists");
        assert_eq!(found(Method::POST, "/lists"), "allow GET");
    }

    #[test]
    fn the_rest_leads_nowhere() {
        for path in [
            "",
            "/",
            "//",
            "/HEALTH",
            "/health/x",
            "health",
            "/nodes//versions",
            "/no/such/route/",
            "*",
        ] {
            assert_eq!(found(Method::GET, path), "nothing", "{path}");
        }
    }

    #[test]
    fn escapes_are_resolved_once() {
        assert_eq!(segments("/%68ealth"), ["", "health"]);
        assert_eq!(segments("/%2568"), ["", "%68"]);
        assert_eq!(segments("/%zz%4"), ["", "%zz%4"]);
        assert_eq!(segments("/caf%C3%A9/%ff"), ["", "café", "\u{fffd}"]);
    }

    #[test]
    fn an_escaped_slash_is_part_of_its_segment() {
        assert_eq!(segments("/a%2Fb/c"), ["", "a/b", "c"]);
        assert_eq!(joined(&segments("/a%2fb/c d")), "/a%2Fb/c%20d");
        assert_eq!(found(Method::GET, "/nodes/a%2Fb"), "GET /nodes/{id}");
        assert_eq!(found(Method::POST, "/nodes%2Fbatch"), "nothing");
    }

    proptest! {
        #[test]
        fn an_encoded_path_decodes_to_itself(path in any::<String>()) {
            let encoded = encode_path(&path);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(segments(&encoded).join("/"), path);
        }

        #[test]
        fn decoding_never_panics(path in any::<String>()) {
            let _ = joined(&segments(&path));
        }
    }
}
