import java.util.Map;
import java.util.Properties;

/** How Kafka is reached, from the environment: by the names that Mailstream itself uses. */
final class Connection {
  private Connection() {}

  static Properties properties() {
    Map<String, String> environment = System.getenv();
    String protocol = environment.getOrDefault("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT");
    Properties found = new Properties();
    found.put("bootstrap.servers", environment.get("KAFKA_BOOTSTRAP"));
    found.put("security.protocol", protocol);
    if (protocol.endsWith("SSL") && environment.containsKey("KAFKA_CA_FILE")) {
      found.put("ssl.truststore.type", "PEM");
      found.put("ssl.truststore.location", environment.get("KAFKA_CA_FILE"));
    }
    if (protocol.startsWith("SASL")) {
      found.put("sasl.mechanism", environment.getOrDefault("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"));
      found.put(
          "sasl.jaas.config",
          "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"%s\" password=\"%s\";"
              .formatted(environment.get("KAFKA_SASL_USERNAME"), environment.get("KAFKA_SASL_PASSWORD")));
    }
    return found;
  }
}
