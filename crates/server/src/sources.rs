//! What the configuration says of source systems: where they run, who answers for them, labels. Owns looking it up while
//! a question is answered; nothing of it is stored with records or runs.

use std::collections::BTreeMap;

use runstone_record::wire::RunBody;
use runstone_store::SourceRow;

/// One source system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSettings {
    /// Where it runs.
    pub environment: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Anything else.
    pub labels: BTreeMap<String, String>,
}

/// The source systems, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceSystems(pub BTreeMap<String, SourceSettings>);

impl SourceSystems {
    pub(crate) fn get(&self, source_system: Option<&str>) -> Option<&SourceSettings> {
        self.0.get(source_system?)
    }

    pub(crate) fn environment(&self, source_system: Option<&str>) -> Option<&str> {
        self.get(source_system)?.environment.as_deref()
    }

    pub(crate) fn owner(&self, source_system: Option<&str>) -> Option<&str> {
        self.get(source_system)?.owner.as_deref()
    }

    /// The names of those in an environment and of an owner, where these are asked for.
    pub(crate) fn names(&self, environment: Option<&str>, owner: Option<&str>) -> Vec<String> {
        let is = |wanted: Option<&str>, found: &Option<String>| wanted.is_none() || wanted == found.as_deref();
        let named = self.0.iter();
        named
            .filter(|(_, source)| is(environment, &source.environment) && is(owner, &source.owner))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Puts into a run's body what is said of its source system.
    pub(crate) fn enrich(&self, mut run: RunBody) -> RunBody {
        if let Some(source) = self.get(run.source_system.as_deref()) {
            run.environment.clone_from(&source.environment);
            run.owner.clone_from(&source.owner);
            run.labels.clone_from(&source.labels);
        }
        run
    }

    /// The table `sources`.
    pub(crate) fn rows(&self) -> Vec<SourceRow> {
        let row = |(name, source): (&String, &SourceSettings)| SourceRow {
            source_system: name.clone(),
            environment: source.environment.clone(),
            owner: source.owner.clone(),
            labels: source.labels.clone(),
        };
        self.0.iter().map(row).collect()
    }
}
