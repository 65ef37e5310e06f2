//! What one caller may see.

use activekg_storage::ids::TenantId;

/// The rows a caller may read: its own tenant's and the shared ones. Writes go to its own tenant
/// only, so shared rows are read-only to everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    tenant: TenantId,
}

impl View {
    /// What `tenant` sees.
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant }
    }

    /// The caller's own tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Every owner whose rows are visible, the caller's own first.
    pub fn owners(&self) -> Vec<TenantId> {
        let shared = TenantId::shared();
        if self.tenant == shared { vec![shared] } else { vec![self.tenant.clone(), shared] }
    }
}
