//! Whose rows a request is about. Nothing else decides it.
//!
//! With a token it is the token's tenant, and another tenant's name in the request changes
//! nothing. While tokens are off it is what the request names, by the rule of the route. The rows
//! a tenant sees are its own and the shared ones; the store applies that to every read.

use activekg_storage::ids::TenantId;

use super::{AuthError, Authenticator, Caller, Scope, Violation};

/// The tenant of requests that name none, while tokens are off.
pub const DEFAULT_TENANT: &str = "default";

/// How a route takes its tenant while tokens are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTenant {
    /// The one the request names, else `default`: nodes, edges, search, events, lineage, uploads.
    NamedOrDefault,
    /// The one the request names, else `ACTIVEKG_DEV_TENANT`: questions.
    NamedOrDev,
    /// `ACTIVEKG_DEV_TENANT` whatever the request names: administrative refresh.
    Dev,
    /// `default` whatever the request names: debug routes.
    Default,
}

/// The tenant of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// Whose rows it is about.
    pub tenant: TenantId,
    /// The request came with a token and named another tenant; the name was ignored and is to be
    /// counted.
    pub violation: Option<Violation>,
}

impl Authenticator {
    /// The tenant a request is about; `named` is the `tenant_id` of its query or body.
    ///
    /// # Errors
    ///
    /// Forbidden when tokens are off and the name is none a tenant can have.
    pub fn tenant(
        &self,
        caller: &Caller,
        named: Option<&str>,
        route: OpenTenant,
    ) -> Result<Effective, AuthError> {
        let named = named.filter(|name| !name.trim().is_empty());
        if caller.authenticated {
            let crossed = named.is_some_and(|name| name != caller.tenant.as_str());
            return Ok(Effective {
                tenant: caller.tenant.clone(),
                violation: crossed.then_some(Violation::CrossTenantQuery),
            });
        }
        let tenant = match (route, named) {
            (OpenTenant::NamedOrDefault | OpenTenant::NamedOrDev, Some(name)) => parsed(name)?,
            (OpenTenant::NamedOrDefault, None) | (OpenTenant::Default, _) => {
                parsed(DEFAULT_TENANT)?
            }
            (OpenTenant::NamedOrDev, None) | (OpenTenant::Dev, _) => self.dev_tenant().clone(),
        };
        Ok(Effective { tenant, violation: None })
    }

    /// The tenant that a route for a tenant's administrator is about: the one the request names,
    /// else the token's, else `default`.
    ///
    /// # Errors
    ///
    /// Forbidden when the token does not allow `admin:refresh`, when it names another tenant than
    /// its own and does not allow `super_admin`, and when the name is none a tenant can have.
    pub fn administered(
        &self,
        caller: &Caller,
        named: Option<&str>,
    ) -> Result<TenantId, AuthError> {
        administrates(caller)?;
        let tenant = match named {
            Some(name) => parsed(name)?,
            None if caller.authenticated => caller.tenant.clone(),
            None => parsed(DEFAULT_TENANT)?,
        };
        if !answers_for_all(caller) && tenant != caller.tenant {
            return Err(crossed());
        }
        Ok(tenant)
    }

    /// Whether the caller may administer all of these tenants; none named means every tenant.
    ///
    /// # Errors
    ///
    /// Forbidden when the token does not allow `admin:refresh`, or concerns others than its own
    /// tenant and does not allow `super_admin`.
    pub fn administered_all(&self, caller: &Caller, tenants: &[TenantId]) -> Result<(), AuthError> {
        if answers_for_all(caller) {
            return Ok(());
        }
        if tenants.is_empty() {
            let text = "super_admin scope required".to_owned();
            return Err(AuthError::forbidden(text, Some(Violation::ScopeDenied)));
        }
        administrates(caller)?;
        let own = tenants.iter().all(|tenant| *tenant == caller.tenant);
        if own { Ok(()) } else { Err(crossed()) }
    }

    /// The tenant whose rows an administrator's list holds: its own, or `None`, which is all, where
    /// it answers for all.
    ///
    /// # Errors
    ///
    /// Forbidden when the token does not allow `admin:refresh`.
    pub fn listed(&self, caller: &Caller) -> Result<Option<TenantId>, AuthError> {
        administrates(caller)?;
        Ok((!answers_for_all(caller)).then(|| caller.tenant.clone()))
    }

    /// The tenant that a route for operators is about: the one the request names, whoever's token
    /// it is; `None`, which is all of them, when it names none.
    ///
    /// # Errors
    ///
    /// Forbidden when the token does not allow `super_admin`, and when the name is none a tenant
    /// can have.
    pub fn operated(
        &self,
        caller: &Caller,
        named: Option<&str>,
    ) -> Result<Option<TenantId>, AuthError> {
        caller.require(Scope::SuperAdmin)?;
        named.filter(|name| !name.trim().is_empty()).map(parsed).transpose()
    }
}

/// Whether the caller answers for the data of all tenants.
#[must_use]
pub fn answers_for_all(caller: &Caller) -> bool {
    !caller.authenticated || caller.scopes.allow(Scope::SuperAdmin)
}

fn administrates(caller: &Caller) -> Result<(), AuthError> {
    if !caller.authenticated || caller.scopes.allow(Scope::AdminRefresh) {
        return Ok(());
    }
    let text = "admin scope required".to_owned();
    Err(AuthError::forbidden(text, Some(Violation::ScopeDenied)))
}

fn crossed() -> AuthError {
    let text = "Cross-tenant access denied".to_owned();
    AuthError::forbidden(text, Some(Violation::CrossTenantQuery))
}

fn parsed(name: &str) -> Result<TenantId, AuthError> {
    TenantId::new(name).map_err(|_| AuthError::forbidden("Invalid tenant_id", None))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{authenticator, token};
    use super::*;

    fn effective(named: Option<&str>, route: OpenTenant) -> String {
        let open = authenticator(&[("ACTIVEKG_DEV_TENANT", "lab")]);
        let caller = open.authenticate(None, 0).unwrap();
        let effective = open.tenant(&caller, named, route).unwrap();
        assert_eq!(effective.violation, None);
        effective.tenant.as_str().to_owned()
    }

    #[test]
    fn without_tokens_the_route_says_where_the_tenant_comes_from() {
        use OpenTenant::{Default, Dev, NamedOrDefault, NamedOrDev};
        assert_eq!(effective(Some("t1"), NamedOrDefault), "t1");
        assert_eq!(effective(None, NamedOrDefault), "default");
        assert_eq!(effective(Some(" "), NamedOrDefault), "default");
        assert_eq!(effective(Some("t1"), NamedOrDev), "t1");
        assert_eq!(effective(None, NamedOrDev), "lab");
        assert_eq!(effective(Some("t1"), Dev), "lab");
        assert_eq!(effective(Some("t1"), Default), "default");
    }

    #[test]
    fn operators_name_any_tenant_or_none() {
        use super::super::tests::{HS256, NOW};
        let closed = authenticator(HS256);
        let caller = |token: &str| {
            closed.authenticate(Some(&format!("Bearer {token}")), NOW).expect("a caller")
        };
        let refused = closed.operated(&caller(&token(&[])), Some("t1")).unwrap_err();
        assert_eq!(refused.violation, Some(Violation::ScopeDenied));
        let operator =
            Caller { scopes: crate::auth::Scopes::named(["super_admin"]), ..caller(&token(&[])) };
        let named = |name| closed.operated(&operator, name).unwrap();
        assert_eq!(named(Some("t2")), Some(TenantId::new("t2").unwrap()));
        assert_eq!((named(None), named(Some(" "))), (None, None));
        assert!(closed.operated(&operator, Some(&"x".repeat(101))).is_err());
        assert_eq!(closed.operated(&closed.administrator(), None).unwrap(), None);
    }

    #[test]
    fn administrators_keep_to_their_tenant_unless_they_answer_for_all() {
        use super::super::tests::{HS256, NOW};
        let closed = authenticator(HS256);
        let with = |scopes: &[&str]| {
            let caller = closed.authenticate(Some(&format!("Bearer {}", token(&[]))), NOW).unwrap();
            Caller { scopes: crate::auth::Scopes::named(scopes.iter().copied()), ..caller }
        };
        let name = |tenant: &str| TenantId::new(tenant).unwrap();
        let (nobody, admin, operator) =
            (with(&["kg:write"]), with(&["admin:refresh"]), with(&["super_admin"]));

        let refused = closed.administered(&nobody, None).unwrap_err();
        assert_eq!(refused.detail, "admin scope required");
        assert_eq!(closed.administered(&admin, None), Ok(name("t1")));
        assert_eq!(closed.administered(&admin, Some("t1")), Ok(name("t1")));
        let refused = closed.administered(&admin, Some("t2")).unwrap_err();
        assert_eq!(refused.detail, "Cross-tenant access denied");
        assert_eq!(refused.violation, Some(Violation::CrossTenantQuery));
        assert_eq!(closed.administered(&operator, Some("t2")), Ok(name("t2")));

        let all = closed.administered_all(&admin, &[]).unwrap_err();
        assert_eq!(all.detail, "super_admin scope required");
        assert_eq!(closed.administered_all(&admin, &[name("t1")]), Ok(()));
        assert!(closed.administered_all(&admin, &[name("t1"), name("t2")]).is_err());
        assert!(closed.administered_all(&nobody, &[name("t1")]).is_err());
        assert_eq!(closed.administered_all(&operator, &[]), Ok(()));

        assert!(closed.listed(&nobody).is_err());
        assert_eq!(closed.listed(&admin), Ok(Some(name("t1"))));
        assert_eq!(closed.listed(&operator), Ok(None));
        let open = authenticator(&[]);
        let anybody = open.authenticate(None, 0).unwrap();
        assert_eq!(open.administered(&anybody, None), Ok(name("default")));
        assert_eq!(open.administered(&anybody, Some("t2")), Ok(name("t2")));
        assert_eq!(
            (open.administered_all(&anybody, &[]), open.listed(&anybody)),
            (Ok(()), Ok(None))
        );
    }

    #[test]
    fn a_token_keeps_to_its_tenant_and_the_attempt_is_reported() {
        let closed = authenticator(super::super::tests::HS256);
        let header = format!("Bearer {}", token(&[]));
        let caller = closed.authenticate(Some(&header), super::super::tests::NOW).unwrap();
        for route in [
            OpenTenant::NamedOrDefault,
            OpenTenant::NamedOrDev,
            OpenTenant::Dev,
            OpenTenant::Default,
        ] {
            let crossed = closed.tenant(&caller, Some("t2"), route).unwrap();
            assert_eq!(crossed.tenant.as_str(), "t1");
            assert_eq!(crossed.violation, Some(Violation::CrossTenantQuery));
            for named in [None, Some("t1"), Some("")] {
                assert_eq!(closed.tenant(&caller, named, route).unwrap().violation, None);
            }
        }
    }
}
