import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** The vectors that every merge is held to, in several orders, with repetitions. */
final class MergeTest {
  private static final ObjectMapper JSON = new ObjectMapper();

  @TestFactory
  Stream<DynamicTest> vectors() throws Exception {
    String path = System.getenv().getOrDefault("MERGE_VECTORS", "../../docs/merge-vectors.json");
    return StreamSupport.stream(JSON.readTree(Path.of(path).toFile()).spliterator(), false)
        .map(vector -> DynamicTest.dynamicTest(vector.get("name").asText(), () -> check(vector)));
  }

  private static void check(JsonNode vector) {
    List<JsonNode> records = new ArrayList<>();
    vector.get("records").forEach(records::add);
    for (int turn = 0; turn < records.size(); turn++) {
      Collections.rotate(records, 1);
      List<JsonNode> backwards = new ArrayList<>(records);
      Collections.reverse(backwards);
      backwards.add(records.get(0));
      for (List<JsonNode> order : List.of(records, backwards)) {
        Map<String, JsonNode> message = new HashMap<>();
        order.forEach(each -> Merge.merge(message, each.get("key").asText().split("/", 2)[1], each.get("value")));
        JsonNode merged = vector.get("merged");
        assertEquals(merged.get("live").asBoolean(), Merge.isLive(message));
        TreeSet<String> labels = new TreeSet<>();
        merged.get("label_ids").forEach(each -> labels.add(each.asText()));
        assertEquals(labels, Merge.labelIds(message));
        Map<String, JsonNode> versions = new TreeMap<>();
        merged.get("contents").fields().forEachRemaining(e -> versions.put(e.getKey(), e.getValue().get("version")));
        Map<String, JsonNode> found = new TreeMap<>();
        Merge.contents(message).forEach((part, content) -> found.put(part, content.get("version")));
        assertEquals(versions, found);
      }
    }
  }

  @Test
  void recordsWithoutAValueTakeARegisterOut() throws Exception {
    Map<String, JsonNode> message = new HashMap<>();
    Merge.merge(message, "deleted", Merge.decode("{\"epoch\": 1, \"history_id\": 5}".getBytes()));
    assertEquals(false, Merge.isLive(message));
    Merge.merge(message, "deleted", Merge.decode(null));
    assertEquals(true, Merge.isLive(message));
  }

  @Test
  void registersThatV1DoesNotHaveAreRefused() throws Exception {
    Map<String, JsonNode> message = new HashMap<>();
    JsonNode register = JSON.readTree("{\"epoch\": 1, \"history_id\": 5}");
    assertThrows(IllegalArgumentException.class, () -> Merge.merge(message, "unheard", register));
  }
}
