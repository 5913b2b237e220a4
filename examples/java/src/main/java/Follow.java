import com.fasterxml.jackson.databind.*;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Follow a label, alert on infected attachments, count mail by sender: mvn compile exec:java -Dexec.args=INBOX
 * Says JSON lines. The topic is compacted, so each start reads it from its beginning.
 */
public final class Follow {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String TOPIC = System.getenv().getOrDefault("DOCUMENTS_TOPIC", "mail.documents.v1");

  /** What there is to say of a message, and under "" whom it counts for; of one that is deleted, nothing. */
  static Map<String, ObjectNode> view(Map<String, JsonNode> message, String label) {
    var says = new TreeMap<String, ObjectNode>();
    var parts = Merge.contents(message);
    if (!parts.containsKey("") || !Merge.isLive(message)) return says;
    JsonNode id = parts.get("").get("message_id"), own = parts.remove("").get("message");
    says.put("", JSON.createObjectNode().set("sender", own.get("sender")));
    if (Merge.labelIds(message).contains(label))
      says.put("label", JSON.createObjectNode().<ObjectNode>set("labelled", id).set("subject", own.get("subject")));
    parts.forEach((path, part) -> {
      if (part.at("/attachment/scan").asText().equals("infected"))
        says.put("/" + path, JSON.createObjectNode().<ObjectNode>set("infected", id).put("part_path", path)
            .set("signature", part.at("/attachment/signature")));
    });
    return says;
  }

  public static void main(String[] arguments) throws Exception {
    var messages = new HashMap<String, Map<String, JsonNode>>(); // by message key
    Map<String, Integer> senders = new TreeMap<>(), told = new TreeMap<>();
    var to = Connection.properties();
    try (var consumer = new KafkaConsumer<>(to, new StringDeserializer(), new ByteArrayDeserializer())) {
      var all = consumer.partitionsFor(TOPIC).stream().map(p -> new TopicPartition(TOPIC, p.partition())).toList();
      consumer.assign(all);
      consumer.seekToBeginning(all);
      while (true) {
        var records = consumer.poll(Duration.ofSeconds(1));
        for (var record : records) {
          String[] key = record.key().split("/", 2);
          var message = messages.computeIfAbsent(key[0], k -> new HashMap<>());
          var said = view(message, arguments[0]);
          Merge.merge(message, key[1], Merge.decode(record.value()));
          var says = view(message, arguments[0]);
          if (said.containsKey("")) senders.merge(said.get("").get("sender").asText(), -1, Integer::sum);
          if (says.containsKey("")) senders.merge(says.get("").get("sender").asText(), 1, Integer::sum);
          says.forEach((what, line) -> { if (!what.isEmpty() && !said.containsKey(what)) System.out.println(line); });
        }
        senders.values().removeIf(count -> count == 0);
        if (records.isEmpty() && !senders.equals(told)) // all that is there has been read
          System.out.println(JSON.writeValueAsString(Map.of("senders", told = new TreeMap<>(senders))));
      }
    }
  }
}
