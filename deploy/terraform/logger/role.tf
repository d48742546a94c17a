data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "logger" {
  # An append is an update; where a log goes on is read from the item. Nothing is listed, scanned or deleted.
  statement {
    sid       = "AppendToLogs"
    actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
    resources = [local.table_arn]
  }

  statement {
    sid       = "WriteItsOwnLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.logger.arn}:*"]
  }

  dynamic "statement" {
    for_each = var.secret_arn != "" ? [var.secret_arn] : []

    content {
      sid       = "ReadItsSecret"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }

  # Only what these two services ask for on its behalf: it decrypts nothing itself.
  dynamic "statement" {
    for_each = length(var.kms_key_arns) > 0 ? [var.kms_key_arns] : []

    content {
      sid       = "DecryptSecretAndTable"
      actions   = ["kms:Decrypt"]
      resources = statement.value

      condition {
        test     = "StringLike"
        variable = "kms:ViaService"
        values   = ["dynamodb.*", "secretsmanager.*"]
      }
    }
  }

  # X-Ray knows no resources that these could be bound to.
  dynamic "statement" {
    for_each = var.tracing ? [1] : []

    content {
      sid       = "SendTraces"
      actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "logger" {
  name               = var.function_name
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "logger" {
  name   = "append-to-logs"
  role   = aws_iam_role.logger.id
  policy = data.aws_iam_policy_document.logger.json
}
