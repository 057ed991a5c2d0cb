//! What the steps of one run share: settings of the run, open warehouses, outputs of finished steps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use errand_model::failure::{Failure, FailureKind};
use errand_model::job::{Connection, Environment, TableName};
use errand_model::template::Values;
use errand_model::value::Label;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::usage::Bills;
use super::{Request, graph, memory};
use crate::store::Store;
use crate::warehouse::{self, Budget, Capabilities, Purpose, Surroundings, Warehouse, ledger};

/// Shared by all steps of a run.
pub struct Context {
    /// The request.
    pub request: Request,
    environment: Environment,
    warehouses: tokio::sync::Mutex<HashMap<String, Arc<dyn Warehouse>>>,
    stores: Mutex<HashMap<String, Store>>,
    outputs: Mutex<BTreeMap<String, Map<String, Value>>>,
    digests: BTreeMap<String, String>,
    targets: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// What the statements of the steps cost.
    pub bills: Bills,
}

impl Context {
    /// Resolves the environment of a request.
    ///
    /// # Errors
    ///
    /// `Definition` when the project has no such environment; the request comes back with it.
    pub fn new(request: Request) -> Result<Self, Box<(Failure, Request)>> {
        match request.project.environments.get(&request.environment) {
            Some(environment) => {
                let (environment, digests) = (environment.clone(), graph::digests(&request.job));
                let (warehouses, stores) = (tokio::sync::Mutex::default(), Mutex::default());
                let (outputs, targets) = (Mutex::default(), Mutex::default());
                Ok(Self { request, environment, warehouses, stores, outputs, digests, targets, bills: Bills::default() })
            }
            None => {
                let known = request.project.environments.keys().cloned().collect::<Vec<_>>().join(", ");
                let message = format!("the project has no environment `{}`", request.environment);
                let failure = Failure::new(FailureKind::Definition, "run::unknown_environment", message);
                Err(Box::new((failure.help(format!("its environments: {known}")), request)))
            }
        }
    }

    /// A connection of the run's environment.
    ///
    /// # Errors
    ///
    /// `Definition` when the environment lacks it.
    pub fn connection(&self, name: &Label) -> Result<&Connection, Failure> {
        self.environment.connections.get(name.as_str()).ok_or_else(|| {
            let message = format!("environment `{}` has no connection `{name}`", self.request.environment);
            let known = self.environment.connections.keys().cloned().collect::<Vec<_>>().join(", ");
            Failure::new(FailureKind::Definition, "run::unknown_connection", message).help(format!("its connections: {known}"))
        })
    }

    /// The files behind a connection; all that use it share one client.
    ///
    /// # Errors
    ///
    /// `Definition` when the connection is something else.
    pub fn store(&self, name: &Label) -> Result<Store, Failure> {
        let mut open = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = open.get(name.as_str()) {
            return Ok(store.clone());
        }
        let store = Store::open(self.connection(name)?, &self.request.state_dir)?;
        open.insert(name.to_string(), store.clone());
        Ok(store)
    }

    /// The warehouse behind a connection; opened and given Errand's own tables at its first use.
    ///
    /// # Errors
    ///
    /// What opening it says.
    pub async fn warehouse(&self, name: &Label) -> Result<Arc<dyn Warehouse>, Failure> {
        let mut open = self.warehouses.lock().await;
        if let Some(warehouse) = open.get(name.as_str()) {
            return Ok(Arc::clone(warehouse));
        }
        let connection = self.connection(name)?;
        // Two names for one file share one database: its lock keeps other processes out, not this one.
        let twin = self.real_path(connection).and_then(|real| open.get(&real).cloned());
        if let Some(warehouse) = twin {
            open.insert(name.to_string(), Arc::clone(&warehouse));
            return Ok(warehouse);
        }
        let budget = Budget { memory_bytes: memory::warehouse_budget(self.request.job.resources.memory_bytes) };
        let surroundings = Surroundings {
            environment: &self.environment,
            state_dir: &self.request.state_dir,
            repository: &self.request.root,
            secrets: &self.request.secrets,
            budget,
        };
        let named = |failure| of_connection(failure, name);
        let warehouse: Arc<dyn Warehouse> = warehouse::open(connection, surroundings).await.map_err(named)?.into();
        let (run_id, job) = (self.request.run_id.clone(), self.request.job.name.to_string());
        let purpose = Purpose { run_id, job, cancelled: self.request.cancelled.clone(), ..Purpose::default() };
        let mut session = warehouse.session(&purpose).await.map_err(named)?;
        ledger::prepare(session.as_mut()).await.map_err(named)?;
        open.insert(name.to_string(), Arc::clone(&warehouse));
        if let Some(real) = self.real_path(connection) {
            open.insert(real, Arc::clone(&warehouse));
        }
        Ok(warehouse)
    }

    /// What a warehouse in a file is known by, whatever its connections are called; a path has a `/`, which no name has.
    fn real_path(&self, connection: &Connection) -> Option<String> {
        match connection {
            Connection::Duckdb { path } => {
                let path = self.request.state_dir.join(path);
                // `a/../b` leads nowhere while `a` is missing. Opening makes it, or says why it cannot.
                std::fs::create_dir_all(path.parent()?).ok()?;
                Some(path.canonicalize().ok()?.to_string_lossy().into_owned())
            }
            Connection::Postgres(_)
            | Connection::Redshift(_)
            | Connection::Snowflake(_)
            | Connection::Directory { .. }
            | Connection::S3(_) => None,
        }
    }

    /// Waits until no other step of this run writes to a table, and keeps others from it until the guard is dropped: of two
    /// transactions that make or change one table side by side, the warehouse would fail one.
    ///
    /// # Errors
    ///
    /// `Cancelled` when the step is cancelled meanwhile.
    pub async fn hold(&self, connection: &Label, table: &TableName, cancelled: &CancellationToken) -> Result<OwnedMutexGuard<()>, Failure> {
        let warehouse = self.warehouse(connection).await?;
        let name = format!("{:p}:{}", Arc::as_ptr(&warehouse), Capabilities::table_key(warehouse.default_schema(), table));
        let target = Arc::clone(self.targets.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default());
        tokio::select! {
            guard = target.lock_owned() => Ok(guard),
            () = cancelled.cancelled() => Err(Failure::new(FailureKind::Cancelled, "run::cancelled", format!("cancelled while another step wrote `{table}`"))),
        }
    }

    /// Keeps what a step put out.
    pub fn put_outputs(&self, step: &str, outputs: Map<String, Value>) {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).insert(step.to_owned(), outputs);
    }

    /// What templates may read: nothing else.
    pub fn values(&self, attempt: u32) -> Values {
        let outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let steps: Map<String, Value> = outputs.iter().map(|(step, outputs)| (step.clone(), json!({ "outputs": outputs }))).collect();
        values(&self.request, attempt, &steps)
    }

    /// What decides the effect of a step: its definition and those of all that it needs.
    #[must_use]
    pub fn digest(&self, step: &str) -> String {
        self.digests.get(step).cloned().unwrap_or_default()
    }

    /// Input values as one text with sorted keys, for load ids.
    #[must_use]
    pub fn inputs_text(&self) -> String {
        serde_json::to_string(&self.request.inputs).unwrap_or_default()
    }
}

/// A failure of a connection says which one; what was cancelled has no need to.
#[must_use]
pub fn of_connection(failure: Failure, name: &Label) -> Failure {
    if failure.kind == FailureKind::Cancelled {
        return failure;
    }
    Failure { message: format!("connection `{name}`: {}", failure.message), ..failure }
}

/// The closed context of templates.
pub(super) fn values(request: &Request, attempt: u32, steps: &Map<String, Value>) -> Values {
    let interval = &request.interval;
    Values::new(json!({
        "run": {
            "id": request.run_id,
            "job": request.job.name.as_str(),
            "date": interval.date(),
            "start": interval.local(interval.start),
            "end": interval.local(interval.end),
            "scheduled_at": interval.local(request.scheduled_at.unwrap_or(interval.end)),
            "attempt": attempt,
            "commit": request.checkout.commit.clone().unwrap_or_default(),
        },
        "inputs": request.inputs,
        "vars": request.job.vars,
        "steps": steps,
    }))
}
