//! What is asked of a figure.

use comfy_table::Table;
use serde::Serialize;

/// A figure with its gate and its goal, both least values.
#[derive(Debug, Clone, Serialize)]
pub struct Gate {
    /// What it is.
    name: &'static str,
    /// What it came to.
    got: f64,
    /// It has to be that at least.
    gate: f64,
    /// It is to be that; absent where nothing more than the gate is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<f64>,
    /// `goal`, `gate` or `below`: what it reached.
    reached: &'static str,
}

impl Gate {
    /// Of a figure with a gate and a goal.
    pub fn new(name: &'static str, got: f64, gate: f64, goal: f64) -> Self {
        let reached = if got >= goal {
            "goal"
        } else if got >= gate {
            "gate"
        } else {
            "below"
        };
        Self { name, got, gate, goal: Some(goal), reached }
    }

    /// Of a figure with a gate alone.
    pub fn only(name: &'static str, got: f64, gate: f64) -> Self {
        Self { name, got, gate, goal: None, reached: if got >= gate { "gate" } else { "below" } }
    }

    /// Whether the gate holds.
    pub fn holds(&self) -> bool {
        self.reached != "below"
    }
}

/// All of them.
pub fn table(gates: &[Gate]) -> Table {
    let mut table = Table::new();
    table.set_header(["figure", "got", "gate", "goal", "reached"]);
    for gate in gates {
        let goal = gate.goal.map_or_else(String::new, |goal| goal.to_string());
        table.add_row([
            gate.name.to_owned(),
            format!("{:.2}", gate.got),
            gate.gate.to_string(),
            goal,
            gate.reached.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached() {
        let reached = |got| Gate::new("x", got, 1.5, 3.0).reached;
        assert_eq!([1.4, 1.5, 2.9, 3.0].map(reached), ["below", "gate", "gate", "goal"]);
        assert!(!Gate::only("x", 1.2, 1.3).holds() && Gate::only("x", 1.3, 1.3).holds());
    }
}
