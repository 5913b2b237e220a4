import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * The merge of mail.documents.v1: what a message is, from its records in any order and number.
 *
 * <p>A message is a map of registers, one JSON object each, by name: a record's key behind the first "/".
 * content/[part path] is what the message (empty path) or an attachment says, labels all labels as of a
 * historyId, label/[id] one label added or removed, deleted that the message was gone. Of each register the
 * highest version wins. docs/merge-vectors.json says what any merge must answer.
 */
final class Merge {
  private static final ObjectMapper JSON = new ObjectMapper();

  private Merge() {}

  /** A record's value, without the texts: most of what it holds. Keep them where you need them. */
  static JsonNode decode(byte[] value) throws IOException {
    if (value == null) {
      return null;
    }
    JsonNode register = JSON.readTree(value);
    if (register.get("message") instanceof ObjectNode message) {
      message.remove("text");
    }
    if (register.get("attachment") instanceof ObjectNode attachment) {
      attachment.remove("segments");
    }
    return register;
  }

  /** Let a record into its message; null is a record without a value: purged or forgotten. */
  static void merge(Map<String, JsonNode> message, String name, JsonNode register) {
    if (register == null) {
      message.remove(name);
      return;
    }
    Comparable<?>[] order = version(name, register);
    JsonNode known = message.get(name);
    if (known == null || Arrays.compare(order, version(name, known), Merge::compare) > 0) {
      message.put(name, register);
    }
  }

  /** What two records of one register compare by. Throws IllegalArgumentException on one that v1 does not have. */
  static Comparable<?>[] version(String name, JsonNode register) {
    long epoch = register.path("epoch").asLong();
    long historyId = register.path("history_id").asLong();
    if (name.startsWith("content/")) {
      JsonNode of = register.get("version");
      return new Comparable<?>[] {
        of.get("epoch").asLong(), of.path("verdict").asLong(0), of.get("engine").asLong(), of.get("rank").asLong(),
        of.get("digest").asText(), of.path("source").asText("gmail_api")
      };
    } else if (name.equals("labels")) {
      // No label holds a zero byte, so the joined list compares as the list does.
      String sorted = texts(register.get("label_ids")).collect(Collectors.joining("\0"));
      return new Comparable<?>[] {epoch, historyId, sorted, register.path("source").asText("gmail_api")};
    } else if (name.startsWith("label/")) {
      return new Comparable<?>[] {epoch, historyId, register.get("present").asBoolean()};
    } else if (name.equals("deleted")) {
      return new Comparable<?>[] {epoch, historyId, register.path("reason").asText("deleted")};
    }
    throw new IllegalArgumentException("no register is called " + name);
  }

  /** Whether it exists: never deleted, or seen since. */
  static boolean isLive(Map<String, JsonNode> message) {
    JsonNode deleted = message.get("deleted");
    return deleted == null
        || message.entrySet().stream()
            .filter(each -> each.getKey().equals("labels") || each.getKey().startsWith("label/"))
            .anyMatch(each -> isAbove(each.getValue(), deleted));
  }

  /** Its labels: the snapshot, and the single changes above it. */
  static Set<String> labelIds(Map<String, JsonNode> message) {
    JsonNode snapshot = message.get("labels");
    Set<String> present = new TreeSet<>();
    if (snapshot != null) {
      texts(snapshot.get("label_ids")).forEach(present::add);
    }
    message.forEach(
        (name, change) -> {
          if (name.startsWith("label/") && (snapshot == null || isAbove(change, snapshot))) {
            String label = change.get("label_id").asText();
            if (change.get("present").asBoolean()) {
              present.add(label);
            } else {
              present.remove(label);
            }
          }
        });
    return present;
  }

  /** What it and its attachments say, by part path; the message's own is under the empty path. */
  static Map<String, JsonNode> contents(Map<String, JsonNode> message) {
    Map<String, JsonNode> found = new TreeMap<>();
    message.forEach(
        (name, each) -> {
          if (name.startsWith("content/")) {
            found.put(name.substring("content/".length()), each);
          }
        });
    return found;
  }

  private static boolean isAbove(JsonNode one, JsonNode other) {
    int epochs = Long.compare(one.get("epoch").asLong(), other.get("epoch").asLong());
    return epochs > 0
        || epochs == 0 && one.get("history_id").asLong() > other.get("history_id").asLong();
  }

  private static Stream<String> texts(JsonNode list) {
    return StreamSupport.stream(list.spliterator(), false).map(JsonNode::asText).sorted();
  }

  @SuppressWarnings({"unchecked", "rawtypes"})
  private static int compare(Comparable one, Comparable other) {
    return one.compareTo(other);
  }
}
