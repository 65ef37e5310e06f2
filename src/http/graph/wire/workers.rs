//! Looking after workers.

use serde_json::Value;

use crate::http::extract::Input;
use crate::http::validate::{At, Checked};
use crate::jobs::CREW_MAX;

/// Body of POST /_admin/workers/{queue}/scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleRequest {
    /// How many are to run, 0 to 64.
    pub workers: usize,
}

impl Input for ScaleRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let workers = fields.required("workers", |at| at.int_in(0, CREW_MAX as i64));
        // Within the bounds it fits.
        fields.finish().map(|()| Self { workers: workers as usize })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_number_has_bounds() {
        for n in [0, 64] {
            let taken = ScaleRequest::parse(&json!({ "workers": n }));
            assert_eq!(taken, Ok(ScaleRequest { workers: n }));
        }
        for bad in
            [json!({}), json!({"workers": 65}), json!({"workers": -1}), json!({"workers": "x"})]
        {
            assert!(ScaleRequest::parse(&bad).is_err(), "{bad}");
        }
    }
}
