output "function_name" {
  description = "What callers invoke."
  value       = aws_lambda_function.logger.function_name
}

output "function_arn" {
  description = "What callers' roles must be allowed to invoke (lambda:InvokeFunction)."
  value       = aws_lambda_function.logger.arn
}

output "function_url" {
  description = "The function's URL, where it has one."
  value       = var.function_url ? aws_lambda_function_url.logger[0].function_url : null
}

output "table_arn" {
  description = "The table of logs."
  value       = local.table_arn
}

output "log_group" {
  description = "Where entries stand that could not be appended."
  value       = aws_cloudwatch_log_group.logger.name
}
