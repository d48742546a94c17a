# The Logger: a function, the table that it appends to, its log, and a role that may do that and nothing else.

data "aws_dynamodb_table" "existing" {
  count = var.create_table ? 0 : 1
  name  = var.table_name
}

resource "aws_dynamodb_table" "logs" {
  count = var.create_table ? 1 : 0

  name                        = var.table_name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = var.table_key
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = var.table_key
    type = "S"
  }

  dynamic "ttl" {
    for_each = var.ttl_days > 0 ? [1] : []

    content {
      enabled        = true
      attribute_name = local.ttl_attribute
    }
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }
}

locals {
  ttl_attribute = "expires_at"
  # A table that is not made here is not changed: whoever made it has turned this on, or nobody has.
  table_has_ttl = var.create_table || var.ttl_days == 0 || anytrue([
    for ttl in flatten(data.aws_dynamodb_table.existing[*].ttl) : ttl.enabled && ttl.attribute_name == local.ttl_attribute
  ])
  table_arn = var.create_table ? aws_dynamodb_table.logs[0].arn : data.aws_dynamodb_table.existing[0].arn

  environment = merge(
    {
      RUNSTONE_DYNAMODB_TABLE          = var.table_name
      RUNSTONE_DYNAMODB_KEY            = var.table_key
      RUNSTONE_DYNAMODB_ITEM_BYTES_MAX = tostring(var.item_bytes_max)
      RUNSTONE_LOGGER_METRICS          = tostring(var.metrics)
      RUNSTONE_LOGGER_TRACING          = tostring(var.tracing)
    },
    var.ttl_days > 0 ? {
      RUNSTONE_DYNAMODB_TTL_ATTRIBUTE = local.ttl_attribute
      RUNSTONE_DYNAMODB_TTL_DAYS      = tostring(var.ttl_days)
    } : {},
    var.secret_arn != "" ? { RUNSTONE_LOGGER_SECRET = var.secret_arn } : {},
  )
}

resource "aws_cloudwatch_log_group" "logger" {
  name              = "/aws/lambda/${var.function_name}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_lambda_function" "logger" {
  function_name    = var.function_name
  role             = aws_iam_role.logger.arn
  package_type     = "Zip"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  memory_size      = var.memory_mb
  timeout          = var.timeout_s
  tags             = var.tags

  environment {
    variables = local.environment
  }

  tracing_config {
    mode = var.tracing ? "Active" : "PassThrough"
  }

  depends_on = [
    aws_cloudwatch_log_group.logger,
    aws_iam_role_policy.logger,
  ]

  lifecycle {
    precondition {
      condition     = local.table_has_ttl
      error_message = "With ttl_days nothing would be deleted: the table ${var.table_name} is not made here, and its time to live is not enabled on the attribute ${local.ttl_attribute}. Enable it there, or leave ttl_days at 0."
    }
  }
}

resource "aws_lambda_function_url" "logger" {
  count = var.function_url ? 1 : 0

  function_name      = aws_lambda_function.logger.function_name
  authorization_type = "AWS_IAM"
}
