// SPDX-License-Identifier: Apache-2.0
/*
 * A small server in the manner of those in Alpine's images: opens port 80 as root, becomes the user "web", and tells each
 * client on a thread of its own who it is and where its neighbour is, by what musl's libc finds. With an argument it is no
 * server: for ten seconds two of its threads change the map of its memory while a third reads it.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void *answer(void *argument)
{
	int client = (int)(long)argument;
	char text[512], greeting[64] = "", address[INET_ADDRSTRLEN] = "none";
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found = NULL;
	struct passwd *user = getpwuid(getuid());
	FILE *file = fopen("/var/lib/web/greeting", "r");

	if (file && fgets(greeting, sizeof(greeting), file))
		greeting[strcspn(greeting, "\n")] = 0;
	if (file)
		fclose(file);
	if (getaddrinfo("php", "9000", &hints, &found) == 0) {
		inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, address, sizeof(address));
		freeaddrinfo(found);
	}
	if (read(client, text, sizeof(text)) > 0) {
		int size = snprintf(text, sizeof(text), "HTTP/1.0 200 OK\r\n\r\n%s from %s, %s\n", greeting,
				    user ? user->pw_name : "nobody", address);

		if (write(client, text, (size_t)size) != size)
			perror("write");
	}
	close(client);
	return NULL;
}

enum { pages = 800, page = 4096 };

static void *changes(void *argument)
{
	char *memory = mmap(NULL, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int random = (unsigned int)(long)argument + 1;

	for (;;) {
		random = random * 1103515245 + 12345;
		mprotect(memory + (random >> 8) % pages * page, page, random >> 31 ? PROT_READ : PROT_NONE);
	}
	return NULL;
}

static void *reads(void *argument)
{
	char text[1024];

	for (;;) {
		int file = open("/proc/self/maps", O_RDONLY);

		while (read(file, text, sizeof(text)) > 0)
			continue;
		close(file);
	}
	return argument;
}

static int churn(void)
{
	pthread_t thread;

	for (long n = 0; n < 3; n++)
		if (pthread_create(&thread, NULL, n == 2 ? reads : changes, (void *)n))
			return 1;
	sleep(10);
	puts("over");
	return 0;
}

int main(int count, char **arguments)
{
	(void)arguments;
	if (count > 1)
		return churn();

	struct sockaddr_in6 own = { .sin6_family = AF_INET6, .sin6_port = htons(80) };
	struct passwd *user = getpwnam("web");
	int server = socket(AF_INET6, SOCK_STREAM, 0);

	if (server < 0 || bind(server, (struct sockaddr *)&own, sizeof(own)) || listen(server, 16)) {
		perror("port 80");
		return 1;
	}
	if (!user || setgroups(0, NULL) || setgid(user->pw_gid) || setuid(user->pw_uid)) {
		perror("web");
		return 1;
	}
	for (;;) {
		int client = accept(server, NULL, NULL);
		pthread_t thread;

		if (client >= 0 && pthread_create(&thread, NULL, answer, (void *)(long)client) == 0)
			pthread_detach(thread);
	}
}
