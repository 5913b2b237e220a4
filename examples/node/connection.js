/** How Kafka is reached, from the environment: by the names that Mailstream itself uses. */
import { readFileSync } from 'node:fs'

export function connection(environment = process.env) {
  const protocol = environment.KAFKA_SECURITY_PROTOCOL ?? 'PLAINTEXT'
  const options = { bootstrapBrokers: environment.KAFKA_BOOTSTRAP.split(',') }
  if (protocol.endsWith('SSL')) {
    options.tls = environment.KAFKA_CA_FILE ? { ca: readFileSync(environment.KAFKA_CA_FILE) } : {}
  }
  if (protocol.startsWith('SASL')) {
    options.sasl = {
      mechanism: environment.KAFKA_SASL_MECHANISM ?? 'SCRAM-SHA-512',
      username: environment.KAFKA_SASL_USERNAME,
      password: environment.KAFKA_SASL_PASSWORD
    }
  }
  return options
}
