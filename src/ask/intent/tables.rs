//! The rules by which questions are read, and the terms that go with them.

/// One way a rule can fire.
pub(super) enum When {
    /// A term of every group, in any order.
    Together(&'static [&'static [&'static str]]),
    /// A term of each group, each after the one before.
    InOrder(&'static [&'static [&'static str]]),
    /// As [`When::InOrder`], but anywhere, inside words too.
    Anywhere(&'static [&'static [&'static str]]),
}

/// Terms for one thing.
pub(super) type Group = &'static [&'static str];

/// Groups of terms, of which those count that a question holds a term of.
pub(super) type Groups = &'static [Group];

pub(super) const OFFICE: Group = &["position", "role", "job"];

pub(super) const OPEN_POSITIONS: &[When] = &[When::Together(&[
    &["position", "role", "job", "engineer", "developer", "scientist"],
    &["open", "available", "hiring", "recruiting", "looking for"],
])];
pub(super) const ROLE_TERMS: Groups = &[
    &["ml", "machine learning"],
    &["data scientist", "data engineer", "data analyst"],
    &["software engineer", "developer", "backend", "frontend"],
    &["devops", "sre", "site reliability"],
];

pub(super) const PERFORMANCE_ISSUES: &[When] = &[When::Anywhere(&[
    &["performance", "slow", "latency", "timeout", "bottleneck"],
    &["issue", "problem", "bug", "incident", "report"],
])];
pub(super) const LOOKBACK_DAYS: u32 = 30;

pub(super) const JOB: &[When] = &[
    When::InOrder(&[OFFICE, &["require", "need", "about", "available", "open", "description"]]),
    When::InOrder(&[&["machine learning", "data scientist", "sre", "ux", "developer"], OFFICE]),
    When::InOrder(&[&["what"], OFFICE]),
    When::InOrder(&[
        &["framework", "stack", "libraries", "requirement", "skill"],
        &["position", "job", "role", "engineer"],
    ]),
];
pub(super) const JOB_TERMS: Groups = &[
    &["machine learning engineer", "ml engineer"],
    &["data scientist"],
    &["site reliability engineer", "sre"],
    &["ux designer", "ux"],
    &["python developer", "python"],
];

pub(super) const RESUME: &[When] = &[
    When::InOrder(&[
        &["experience", "resume", "candidate", "engineer", "scientist"],
        &["has", "have", "with", "know"],
    ]),
    When::InOrder(&[&["who has", "who have"]]),
    When::InOrder(&[&["what"], &["experience", "skills", "knowledge"]]),
];
pub(super) const RESUME_TERMS: Groups =
    &[&["data scientist"], &["machine learning", "ml"], &["python"], &["site reliability", "sre"]];

pub(super) const ARTICLE: &[When] = &[
    When::InOrder(&[&["article", "paper", "guide", "documentation", "tutorial"]]),
    When::InOrder(&[&[
        "what are the tools",
        "what are the patterns",
        "what are the approaches",
        "what are the best practices",
    ]]),
    When::InOrder(&[
        &["kubernetes", "docker", "monitoring", "autoscaling"],
        &["tools", "patterns", "mentioned"],
    ]),
];
pub(super) const ARTICLE_TERMS: Groups = &[
    &["kubernetes", "k8s"],
    &["autoscaling", "autoscaler"],
    &["monitoring", "prometheus", "grafana"],
];
