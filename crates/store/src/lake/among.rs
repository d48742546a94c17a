//! A condition: is a number one of many? Owns it as an expression that a scan evaluates row by row and that nothing plans
//! with: an `IN (…)` of as many literals is simplified, analysed and rewritten for each row group, for longer than its rows
//! take to read.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::common::{DataFusionError, HashSet, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;

/// Numbers that a row's may be one of.
#[derive(Debug, Eq)]
pub(crate) struct Among {
    number: Arc<dyn PhysicalExpr>,
    numbers: Arc<HashSet<i64>>,
}

impl Among {
    /// `number` is an expression of 64 bits.
    pub(crate) fn new(number: Arc<dyn PhysicalExpr>, numbers: impl IntoIterator<Item = i64>) -> Self {
        Self { number, numbers: Arc::new(numbers.into_iter().collect()) }
    }
}

// Derived, it would move the expression out.
impl PartialEq for Among {
    fn eq(&self, other: &Self) -> bool {
        self.number.eq(&other.number) && self.numbers == other.numbers
    }
}

impl Hash for Among {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
        self.numbers.len().hash(state);
    }
}

impl fmt::Display for Among {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is one of {} numbers", self.number, self.numbers.len())
    }
}

impl PhysicalExpr for Among {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.number.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let values = self.number.evaluate(batch)?.into_array(batch.num_rows())?;
        let numbers = values
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(|| DataFusionError::Internal(format!("{self}: it is {}", values.data_type())))?;
        let found = numbers.values().iter().map(|number| self.numbers.contains(number)).collect();
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(found, numbers.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.number]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let number = children.pop();
        let number = number.ok_or_else(|| DataFusionError::Internal("nothing that may be a number".to_owned()))?;
        Ok(Arc::new(Self { number, numbers: Arc::clone(&self.numbers) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn found(values: Arc<dyn Array>) -> Result<Vec<Option<bool>>> {
        let fields = vec![Field::new("other", DataType::Utf8, true), Field::new("n", values.data_type().clone(), true)];
        let others = Arc::new(StringArray::from(vec![None::<&str>; values.len()]));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![others, values])?;
        let among = Arc::new(Among::new(Arc::new(Column::new("n", 0)), [-3, i64::MAX]));
        let moved = among.with_new_children(vec![Arc::new(Column::new("n", 1))])?;
        let found = moved.evaluate(&batch)?.into_array(batch.num_rows())?;
        Ok(found.as_boolean().iter().collect())
    }

    #[test]
    fn numbers_are_found_nulls_stay_unknown_and_texts_are_refused() {
        let values = Int64Array::from(vec![Some(-3), Some(3), None, Some(i64::MAX)]);
        assert_eq!(found(Arc::new(values)).unwrap(), [Some(true), Some(false), None, Some(true)]);
        let refused = found(Arc::new(StringArray::from(vec!["-3"]))).unwrap_err().to_string();
        assert!(refused.contains("Utf8"), "{refused}");
    }
}
