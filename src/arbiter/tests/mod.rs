//! Table tests of the decision table.
