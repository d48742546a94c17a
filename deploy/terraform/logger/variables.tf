variable "package" {
  description = "Path of the zip file with the binary as `bootstrap`: docs/logger.md says how it is made."
  type        = string
}

variable "architecture" {
  description = "What the binary was built for: arm64 or x86_64."
  type        = string
  default     = "x86_64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture is arm64 or x86_64."
  }
}

variable "function_name" {
  description = "Name of the function. Role and log group are named after it."
  type        = string
  default     = "datamorph-logger"
}

variable "table_name" {
  description = "Name of the DynamoDB table."
  type        = string
  default     = "dmdb_logs"
}

variable "table_key" {
  description = "Partition key of the table, a string."
  type        = string
  default     = "run_id"
}

variable "create_table" {
  description = "Whether the table is made here. With false, a table of this name must be there already, and is not changed."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Whether a table that is made here is protected from deletion."
  type        = bool
  default     = true
}

variable "ttl_days" {
  description = "Days after the last entry at which an item is deleted; 0 keeps logs for ever. Longer than any run lasts. A table that is not made here must have its time to live on expires_at."
  type        = number
  default     = 0

  validation {
    condition     = var.ttl_days >= 0 && floor(var.ttl_days) == var.ttl_days
    error_message = "The days are a whole number, 0 or more."
  }
}

variable "item_bytes_max" {
  description = "Bytes of an item beyond which a run's log goes on in another; lower costs fewer write units an append."
  type        = number
  default     = 350000

  validation {
    condition     = var.item_bytes_max >= 1024 && var.item_bytes_max <= 405504
    error_message = "The bytes are 1024 to 405504."
  }
}

variable "secret_arn" {
  description = "ARN of a secret with further settings as a JSON object; empty: there is none."
  type        = string
  default     = ""
}

variable "kms_key_arns" {
  description = "ARNs of KMS keys of your own under which the secret or the table is encrypted; empty: they are under keys of AWS."
  type        = list(string)
  default     = []
}

variable "memory_mb" {
  description = "Memory of the function in MB. Its share of a processor grows with it."
  type        = number
  default     = 128
}

variable "timeout_s" {
  description = "Seconds that an invocation may take. The function answers half a second earlier, done or not."
  type        = number
  default     = 30
}

variable "log_retention_days" {
  description = "Days that the function's own log is kept: entries that could not be appended are in it."
  type        = number
  default     = 90
}

variable "metrics" {
  description = "Whether the function writes metrics in CloudWatch's embedded metric format."
  type        = bool
  default     = false
}

variable "tracing" {
  description = "Whether invocations and their appends are traced by X-Ray."
  type        = bool
  default     = false
}

variable "function_url" {
  description = "Whether the function has a URL of its own, for callers that sign their requests (IAM)."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
