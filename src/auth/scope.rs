//! What a token allows, and what a route needs.

use serde_json::Value;

use crate::config::AuthzMode;

/// A permission a route can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Search and read.
    SearchRead,
    /// Ask questions.
    AskRead,
    /// Create, change, delete.
    KgWrite,
    /// Administer.
    AdminRefresh,
    /// Everything, across tenants.
    SuperAdmin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::SearchRead, Self::AskRead, Self::KgWrite, Self::AdminRefresh, Self::SuperAdmin];

    /// The name in a token.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SearchRead => "search:read",
            Self::AskRead => "ask:read",
            Self::KgWrite => "kg:write",
            Self::AdminRefresh => "admin:refresh",
            Self::SuperAdmin => "super_admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The scopes of one token, with what they imply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// The scopes of these names, compared exactly; unknown names allow nothing.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut bits = 0;
        for name in names {
            bits |= match name {
                "search:read" => Scope::SearchRead.bit(),
                "ask:read" => Scope::AskRead.bit(),
                "read" => Scope::SearchRead.bit() | Scope::AskRead.bit(),
                "kg:write" | "nodes:write" | "write" => Scope::KgWrite.bit(),
                "admin:refresh" => Scope::AdminRefresh.bit(),
                "super_admin" => u8::MAX,
                _ => 0,
            };
        }
        Self(bits)
    }

    /// The scopes of a token's claims: the list `scopes` without what is no string, or the string
    /// `scopes` split at spaces; when there is no `scopes`, the string `scope`. Anything else
    /// allows nothing.
    pub(super) fn of_claims(scopes: Option<&Value>, scope: Option<&Value>) -> Self {
        match scopes {
            Some(Value::Array(names)) => Self::named(names.iter().filter_map(Value::as_str)),
            Some(Value::String(names)) => Self::named(names.split_whitespace()),
            None | Some(Value::Null) => match scope {
                Some(Value::String(names)) => Self::named(names.split_whitespace()),
                _ => Self::default(),
            },
            Some(_) => Self::default(),
        }
    }

    /// Whether `scope` is among them or implied.
    #[must_use]
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }
}

/// What a route does, as far as permissions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// POST /search and the reads of nodes, edges, lineage, events, versions, triggers.
    Read,
    /// POST /ask and /ask/stream.
    Ask,
    /// Creates, changes and deletes of nodes, edges, triggers, uploads.
    Write,
    /// The administration and debug routes.
    Admin,
    /// The routes that are about the data of every tenant at once.
    Operate,
    /// Routes for any valid token.
    Any,
}

impl Access {
    /// The scope a route of this kind needs.
    #[must_use]
    pub fn scope(self, mode: AuthzMode) -> Option<Scope> {
        match (self, mode) {
            (Self::Operate, _) => Some(Scope::SuperAdmin),
            (Self::Admin, _) => Some(Scope::AdminRefresh),
            (Self::Any, _) | (_, AuthzMode::Tenant) => None,
            (Self::Read, AuthzMode::Scopes) => Some(Scope::SearchRead),
            (Self::Ask, AuthzMode::Scopes) => Some(Scope::AskRead),
            (Self::Write, AuthzMode::Scopes) => Some(Scope::KgWrite),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(scopes: Scopes) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| scopes.allow(*scope)).map(Scope::as_str).collect()
    }

    #[test]
    fn some_scopes_imply_others() {
        assert_eq!(names(Scopes::named(["super_admin"])).len(), Scope::ALL.len());
        assert_eq!(names(Scopes::named(["read"])), ["search:read", "ask:read"]);
        assert_eq!(names(Scopes::named(["write"])), ["kg:write"]);
        assert_eq!(names(Scopes::named(["nodes:write"])), ["kg:write"]);
        assert_eq!(names(Scopes::named(["admin:refresh"])), ["admin:refresh"]);
    }

    #[test]
    fn names_are_exact() {
        for name in
            ["admin:refreshx", "xadmin:refresh", "Admin:Refresh", "admin", "", "super_admin2"]
        {
            assert_eq!(names(Scopes::named([name])), [""; 0], "{name}");
        }
    }

    #[test]
    fn claims_come_in_three_shapes() {
        let of =
            |scopes: Value, scope: Value| names(Scopes::of_claims(Some(&scopes), Some(&scope)));
        assert_eq!(of(json!(["admin:refresh", 7, null]), json!("read")), ["admin:refresh"]);
        assert_eq!(of(json!("kg:write  ask:read"), json!("read")), ["ask:read", "kg:write"]);
        assert_eq!(
            of(Value::Null, json!("search:read admin:refresh")),
            ["search:read", "admin:refresh"]
        );
        // A substring of a string is no scope, and neither is a number or an object.
        assert_eq!(of(json!("not-admin:refresh-at-all"), Value::Null), [""; 0]);
        assert_eq!(of(json!(7), json!("read")), [""; 0]);
        assert_eq!(of(json!({"admin:refresh": true}), json!("read")), [""; 0]);
        assert_eq!(names(Scopes::of_claims(None, Some(&json!(["read"])))), [""; 0]);
    }

    #[test]
    fn routes_ask_for_more_in_scopes_mode() {
        for mode in [AuthzMode::Tenant, AuthzMode::Scopes] {
            assert_eq!(Access::Admin.scope(mode), Some(Scope::AdminRefresh));
            assert_eq!(Access::Any.scope(mode), None);
        }
        assert_eq!(Access::Write.scope(AuthzMode::Tenant), None);
        assert_eq!(Access::Write.scope(AuthzMode::Scopes), Some(Scope::KgWrite));
        assert_eq!(Access::Read.scope(AuthzMode::Scopes), Some(Scope::SearchRead));
        assert_eq!(Access::Ask.scope(AuthzMode::Scopes), Some(Scope::AskRead));
    }
}
